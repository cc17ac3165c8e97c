// The rig: sliders by region drive a presenter's face, which the kernel draws; curves play with their sound.
// state {frame, <control>: 0 to 1 …}; facts {alt, size, fps, curves: (T, 51) or []}; media {face: jpeg, a: mp4?}.
// The kernel answers each new state with a message whose buffer is the face as JPEG; one is asked for at a time.

const STYLE = `
.th-rig { margin: 5px; display: flex; flex-wrap: wrap; gap: 12px; max-width: 860px; font: 13px/1.4 var(--jp-ui-font-family, sans-serif);
  color: var(--jp-ui-font-color1, #111); }
.th-rig :focus-visible { outline: 3px solid #0072B2; outline-offset: 2px; }
.th-rig .face { position: relative; background: #ddd; border-radius: 4px; overflow: hidden; }
.th-rig .face > * { position: absolute; inset: 0; width: 100%; height: 100%; }
.th-rig .row { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; margin-top: 6px; }
.th-rig button { font: inherit; min-height: 28px; min-width: 30px; padding: 0 9px; color: inherit; border: 1px solid #777;
  border-radius: 4px; background: var(--jp-layout-color1, #fff); cursor: pointer; }
.th-rig input[type="range"] { accent-color: #0072B2; min-width: 0; width: 100%; margin: 0; }
.th-rig .panel { flex: 1; min-width: 300px; max-height: 400px; overflow-y: auto; padding: 0 6px; }
.th-rig summary { font-weight: bold; cursor: pointer; padding: 3px 0; }
.th-rig .slider { display: grid; grid-template-columns: 11em 1fr 2.6em; gap: 8px; align-items: center; }
.th-rig .slider.on { background: rgba(230, 159, 0, 0.25); border-radius: 4px; }
.th-rig output { text-align: right; font-variant-numeric: tabular-nums; }
.th-rig .where { font-variant-numeric: tabular-nums; }
.th-rig .help { color: var(--jp-ui-font-color2, #555); font-size: 12px; margin-top: 4px; }`;
const REGIONS = { jaw: /^jaw/, mouth: /^mouth/, eyes: /^eye/, brows: /^brow/, "cheeks and nose": /^(cheek|nose)/ };

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
  const { alt, size, fps, curves, names } = model.get("facts");
  const media = model.get("media");
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches; // then curves play once, not for ever
  let state = { ...model.get("state") };
  let asked = -Infinity; // when a face was asked for that has not come yet
  let wanted = false; // and by now the sliders stand elsewhere
  let playing = false;
  let url = address(media.face, "image/jpeg");

  const image = make("img", { src: url, alt });
  const face = make("div", { class: "face" }, image);
  face.style.width = face.style.height = `${Math.max(size, 200)}px`;
  const video = media.a ? make("video", { src: address(media.a, "video/mp4"), playsinline: "", preload: "auto", "aria-label": alt }) : null;
  const button = (text, label, act) => make("button", { type: "button", "aria-label": label, title: label, onclick: act }, text);
  const linked = make("input", { type: "checkbox", checked: "" });
  linked.addEventListener("change", () => arrange());
  const left = make("div", {}, face, make("div", { class: "row" },
    button("at rest", "all sliders to 0", () => change(Object.fromEntries(names.map((name) => [name, 0])))),
    make("label", {}, linked, " both sides as one")));
  const panel = make("div", { class: "panel", role: "group", "aria-label": "controls of the face" });
  const root = make("div", { class: "th-rig", role: "group", "aria-label": alt },
    make("style", {}, STYLE), left, panel);
  let help = "Tab to a slider, ← → move it";
  const play = button("▶", "play (space)", () => toggle());
  const rail = make("input", { type: "range", min: 0, max: Math.max(0, curves.length - 1), step: 1, "aria-label": "frame" });
  const where = make("span", { class: "where" });
  if (video) {
    face.append(video);
    rail.addEventListener("input", () => { pause(); seek(+rail.value); });
    video.addEventListener("ended", () => (calm ? pause() : video.play().then(follow, () => {})));
    video.addEventListener("loadeddata", () => { video.currentTime = (state.frame + 0.5) / fps; });
    left.append(make("div", { class: "row" }, play, where), rail);
    help += " · space play · , . one frame";
  }
  left.append(make("div", { class: "help" }, help));
  left.style.width = face.style.width;
  root.addEventListener("keydown", pressed);

  const mirror = (name) => { // the same control of the other side
    const other = name.replace(/Left$/, "Right");
    return other !== name && /(?<!jaw|mouth)Left$/.test(name) && names.includes(other) ? other : null;
  };
  const rows = new Map();
  for (const [region, pattern] of Object.entries(REGIONS)) {
    const box = make("details", { open: "" }, make("summary", {}, region));
    for (const name of names.filter((one) => pattern.test(one))) {
      const slider = make("input", { type: "range", min: 0, max: 1, step: 0.01, "aria-label": name });
      const row = { label: make("span", {}, name), slider, value: make("output", {}) };
      row.node = make("label", { class: "slider" }, row.label, slider, row.value);
      slider.addEventListener("input", () => {
        pause();
        const other = linked.checked && mirror(name);
        change({ [name]: +slider.value, ...(other ? { [other]: +slider.value } : {}) });
      });
      rows.set(name, row);
      box.append(row.node);
    }
    panel.append(box);
  }
  el.append(root);

  function arrange() { // of two sides as one, only the left's row is there
    for (const [name, row] of rows) {
      const pair = linked.checked && mirror(name);
      row.label.textContent = pair ? name.replace(/Left$/, "") : name;
      if (mirror(name)) rows.get(mirror(name)).node.style.display = pair ? "none" : "";
    }
  }

  function draw(values) {
    for (const [name, { slider, value, node }] of rows) {
      slider.value = values[name];
      value.textContent = (+values[name]).toFixed(2);
      node.classList.toggle("on", values[name] > 0.02);
    }
    if (!video) return;
    rail.value = values.frame;
    where.textContent = `frame ${values.frame} of ${curves.length} · ${(values.frame / fps).toFixed(2)} s`;
    root.dataset.frame = values.frame;
    play.textContent = playing ? "❚❚" : "▶";
    play.setAttribute("aria-label", playing ? "pause (space)" : "play (space)");
  }

  const at = (k) => ({ ...Object.fromEntries(names.map((name, i) => [name, curves[k][i]])), frame: k });

  function change(news) { // by a slider: the face is the kernel's, over the video
    state = { ...state, ...news };
    draw(state);
    if (performance.now() - asked < 2000) { wanted = true; return; }
    const last = model.get("state");
    if (Object.keys(state).every((key) => state[key] === last[key])) return;
    asked = performance.now();
    model.set("state", { ...state });
    model.save_changes();
  }

  function seek(k) {
    video.style.display = "";
    video.currentTime = (k + 0.5) / fps;
    change(at(k));
  }

  model.on("msg:custom", drawn);
  function drawn(_, buffers) {
    URL.revokeObjectURL(url);
    url = address(buffers[0], "image/jpeg");
    image.src = url;
    image.dataset.count = 1 + +(image.dataset.count ?? 0);
    asked = -Infinity;
    const own = video && names.some((name, i) => Math.abs(state[name] - curves[state.frame][i]) > 1e-6);
    if (video && !playing) video.style.display = own ? "none" : "";
    if (wanted) { wanted = false; change({}); }
  }

  function toggle() {
    if (playing) return pause();
    playing = true;
    video.style.display = "";
    if (state.frame >= curves.length - 1) video.currentTime = 0;
    video.play().then(follow, () => { playing = false; });
    draw(state);
  }

  function pause() {
    if (!playing) return;
    playing = false;
    video.pause();
    change(state);
  }

  function follow() { // the sliders show each frame that is shown
    video.requestVideoFrameCallback((_, { mediaTime }) => {
      if (!playing) return;
      state = at(Math.max(0, Math.min(Math.round(mediaTime * fps), curves.length - 1)));
      draw(state);
      follow();
    });
  }

  function pressed(event) {
    if (!video || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("button, summary, [type=checkbox]")) return;
    const step = (by) => { pause(); seek(Math.max(0, Math.min(curves.length - 1, state.frame + by))); };
    const acts = { " ": () => toggle(), ",": () => step(-1), ".": () => step(1) };
    if (!acts[event.key]) return;
    event.preventDefault();
    event.stopPropagation();
    acts[event.key]();
  }

  const told = () => { // by the kernel
    const news = model.get("state");
    if (asked > 0 || Object.keys(news).every((key) => news[key] === state[key])) return;
    state = { ...news };
    if (video) video.currentTime = (state.frame + 0.5) / fps;
    draw(state);
  };
  model.on("change:state", told);
  arrange();
  draw(state);
  model.send({ draw: true });
  return () => { model.off("change:state", told); model.off("msg:custom", drawn); playing = false; };
}

export default { render };
