// Before and after under one another, with a divider that is dragged; videos play in step.
// state {divider: 0 to 1, frame of clips}; facts {alt, titles, size: [H, W], fps and frames of clips}; media {a, b}.

const STYLE = `
.th-compare { margin: 5px; max-width: calc(100% - 10px); font: 13px/1.4 var(--jp-ui-font-family, sans-serif); color: var(--jp-ui-font-color1, #111); }
.th-compare :focus-visible { outline: 3px solid #0072B2; outline-offset: 2px; }
.th-compare .stage { position: relative; overflow: hidden; touch-action: none; cursor: ew-resize; user-select: none; }
.th-compare .stage img, .th-compare .stage video { display: block; width: 100%; height: 100%; position: absolute; inset: 0; }
.th-compare .title { position: absolute; top: 8px; padding: 1px 9px; border-radius: 4px; font-weight: bold; }
.th-compare .title.a { left: 8px; background: #0072B2; color: #fff; }
.th-compare .title.b { right: 8px; background: #E69F00; color: #000; }
.th-compare .divider { position: absolute; top: 0; bottom: 0; width: 4px; margin-left: -2px; background: #fff;
  box-shadow: 0 0 0 1px #000; }
.th-compare .divider:focus-visible { outline: 3px solid #0072B2; outline-offset: 0; }
.th-compare .knob { position: absolute; top: 50%; left: 50%; width: 30px; height: 30px; margin: -15px; border-radius: 50%;
  background: #fff; color: #111; border: 1px solid #000; display: grid; place-items: center; font-weight: bold; }
.th-compare .divider:focus-visible .knob { background: #0072B2; color: #fff; }
.th-compare .row { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; margin-top: 6px; }
.th-compare button { font: inherit; min-height: 28px; min-width: 30px; padding: 0 8px; border: 1px solid #777; color: inherit;
  border-radius: 4px; background: var(--jp-layout-color1, #fff); cursor: pointer; }
.th-compare .rail { flex: 1; min-width: 120px; accent-color: #0072B2; }
.th-compare .where { font-variant-numeric: tabular-nums; }
.th-compare .help { color: var(--jp-ui-font-color2, #555); font-size: 12px; margin-top: 4px; }
.th-compare .fault { color: #D55E00; font-weight: bold; }`;

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  node.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes the keys: i i would interrupt the kernel
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

function address(content, type) {
  const bytes = typeof content === "string" ? Uint8Array.from(atob(content), (c) => c.charCodeAt(0)) : content;
  return URL.createObjectURL(new Blob([bytes], { type }));
}

function render({ model, el }) {
  const { alt, titles, size, fps, frames } = model.get("facts");
  const media = model.get("media");
  const moving = Boolean(fps);
  const longest = moving ? Math.max(...frames) : 1;
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches; // then clips play once, not for ever
  const urls = ["a", "b"].map((name) => address(media[name], moving ? "video/mp4" : "image/png"));
  let state = { ...model.get("state") };
  let playing = false;
  let sounding = 1; // which of the two is heard

  const fault = make("div", { class: "fault", role: "alert" });
  const layers = urls.map((src, k) => {
    const layer = moving
      ? make("video", { src, playsinline: "", preload: "auto", "aria-label": `${titles[k]}: ${alt}` })
      : make("img", { src, alt: `${titles[k]}: ${alt}`, draggable: "false" });
    layer.addEventListener("error", () => { fault.textContent = "This browser cannot show the clip (H.264)."; });
    return layer;
  });
  const [before, after] = layers;
  const divider = make("div", { class: "divider", tabindex: 0, role: "slider", "aria-valuemin": 0, "aria-valuemax": 100,
    "aria-label": `divider between ${titles[0]} and ${titles[1]}` }, make("div", { class: "knob", "aria-hidden": "true" }, "⇔"));
  const stage = make("div", { class: "stage" }, after, before,
    make("div", { class: "title a" }, titles[0]), make("div", { class: "title b" }, titles[1]), divider);
  stage.style.aspectRatio = `${size[1]} / ${size[0]}`;
  const root = make("div", { class: "th-compare", role: "group", "aria-label": alt },
    make("style", {}, STYLE), stage, fault);
  root.style.width = `${Math.max(360, Math.min(size[1], 800))}px`;
  const button = (text, label, act) => make("button", { type: "button", "aria-label": label, title: label, onclick: act }, text);
  const play = button("▶", "play (space)", () => toggle());
  const sound = button("", "which sound is heard (s)", () => hear(1 - sounding));
  const rail = make("input", { class: "rail", type: "range", min: 0, max: longest - 1, step: 1, "aria-label": "frame" });
  rail.addEventListener("input", () => { pause(); change({ frame: +rail.value }); });
  const where = make("span", { class: "where" });
  let help = "drag the divider, or ← → (with shift: further), Home, End";
  if (moving) {
    root.append(make("div", { class: "row" }, button("◂ 1", "one frame back (,)", () => step(-1)), play,
      button("1 ▸", "one frame on (.)", () => step(1)), rail, where, sound));
    help += " · space play · , . one frame · s sound";
  }
  root.append(make("div", { class: "help" }, help));
  root.addEventListener("keydown", pressed);
  stage.addEventListener("pointerdown", (event) => {
    stage.setPointerCapture(event.pointerId);
    divider.focus({ preventScroll: true });
    event.preventDefault();
    drag(event);
  });
  stage.addEventListener("pointermove", (event) => { if (stage.hasPointerCapture(event.pointerId)) drag(event); });
  stage.addEventListener("pointerup", () => tell());
  el.append(root);

  function drag(event) {
    const box = stage.getBoundingClientRect();
    change({ divider: (event.clientX - box.left) / box.width }, false);
  }

  const within = (k, side) => Math.max(0, Math.min(k, frames[side] - 1));
  const now = () => Math.floor(layers[frames[0] >= frames[1] ? 0 : 1].currentTime * fps + 1e-3);

  function change(news, told = true) {
    state = { ...state, ...news };
    state.divider = Math.round(1000 * Math.max(0, Math.min(1, state.divider))) / 1000;
    before.style.clipPath = `inset(0 ${100 - 100 * state.divider}% 0 0)`;
    divider.style.left = `${100 * state.divider}%`;
    divider.setAttribute("aria-valuenow", Math.round(100 * state.divider));
    divider.setAttribute("aria-valuetext", `${Math.round(100 * state.divider)} % ${titles[0]}`);
    if (moving && "frame" in news) layers.forEach((v, side) => { v.currentTime = (within(state.frame, side) + 0.5) / fps; });
    if (moving) draw(state.frame);
    if (told) tell();
  }

  function draw(k) {
    rail.value = k;
    where.textContent = `frame ${k} · ${(k / fps).toFixed(2)} s`;
    root.dataset.frame = k;
    play.textContent = playing ? "❚❚" : "▶";
    play.setAttribute("aria-label", playing ? "pause (space)" : "play (space)");
  }

  function tell() {
    model.set("state", { ...state });
    model.save_changes();
  }

  function hear(side) {
    sounding = side;
    layers.forEach((video, k) => { video.muted = k !== side; });
    sound.textContent = `sound: ${titles[side]}`;
  }

  function toggle() { if (playing) pause(); else start(); }

  function start() {
    if (state.frame >= longest - 1) change({ frame: 0 });
    playing = true;
    Promise.all(layers.map((video) => video.play())).then(follow, () => { playing = false; });
    draw(state.frame);
  }

  function pause() {
    if (!playing) return;
    playing = false;
    layers.forEach((video) => video.pause());
    change({ frame: Math.min(now(), longest - 1) });
  }

  function step(by) { pause(); change({ frame: Math.max(0, Math.min(longest - 1, state.frame + by)) }); }

  function follow() { // once a picture: the longer clip leads, and the other is put right where it has drifted
    if (!playing) return;
    const lead = layers[frames[0] >= frames[1] ? 0 : 1];
    const led = layers[frames[0] >= frames[1] ? 1 : 0];
    if (!led.ended && Math.abs(lead.currentTime - led.currentTime) > 1 / fps) led.currentTime = lead.currentTime;
    state.frame = Math.min(now(), longest - 1);
    draw(state.frame);
    if (!lead.ended) return requestAnimationFrame(follow);
    if (calm) return pause();
    change({ frame: 0 }, false);
    start();
  }

  function pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const far = event.shiftKey ? 0.1 : 0.01;
    const acts = {
      ArrowLeft: () => change({ divider: state.divider - far }), ArrowRight: () => change({ divider: state.divider + far }),
      Home: () => change({ divider: 0 }), End: () => change({ divider: 1 }),
    };
    if (moving) Object.assign(acts, { " ": () => toggle(), ",": () => step(-1), ".": () => step(1), s: () => hear(1 - sounding) });
    if (!acts[event.key] || (event.key === " " && event.target.matches("button"))) return;
    if (event.target === rail && (event.key.startsWith("Arrow") || event.key === "Home" || event.key === "End")) return;
    event.preventDefault();
    event.stopPropagation();
    acts[event.key]();
  }

  const heard = () => {
    const told = model.get("state");
    if (told.divider !== state.divider) change({ divider: told.divider }, false);
    if (moving && told.frame !== state.frame) { pause(); change({ frame: told.frame }, false); }
  };
  model.on("change:state", heard);
  if (moving) hear(1);
  change(moving ? { frame: state.frame } : {}, false);
  return () => { model.off("change:state", heard); playing = false; urls.forEach((url) => URL.revokeObjectURL(url)); };
}

export default { render };
