// The player: a video with its sound, frame by frame, slower, in a loop, and in turns with another at the same time.
// state {frame, speed, first, last, side}; facts {alt, fps, frames: [T] or [T, T'], width}; media {a, b}: mp4.

const STYLE = `
.th-player { margin: 5px; max-width: calc(100% - 10px); font: 13px/1.4 var(--jp-ui-font-family, sans-serif); color: var(--jp-ui-font-color1, #111); }
.th-player:focus-visible, .th-player :focus-visible { outline: 3px solid #0072B2; outline-offset: 2px; }
.th-player .stage { position: relative; background: #000; cursor: pointer; }
.th-player video { display: block; width: 100%; }
.th-player video + video { position: absolute; inset: 0; height: 100%; }
.th-player .hidden { visibility: hidden; }
.th-player .badge { position: absolute; left: 8px; top: 8px; padding: 1px 9px; border-radius: 4px; font-weight: bold; }
.th-player .badge[data-side="0"] { background: #0072B2; color: #fff; }
.th-player .badge[data-side="1"] { background: #E69F00; color: #000; }
.th-player .row { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; margin-top: 6px; }
.th-player button, .th-player select { font: inherit; min-height: 28px; min-width: 30px; padding: 0 8px; color: inherit;
  border: 1px solid #777; border-radius: 4px; background: var(--jp-layout-color1, #fff); cursor: pointer; }
.th-player button[aria-pressed="true"] { background: #0072B2; color: #fff; border-color: #0072B2; }
.th-player .where { margin-left: auto; font-variant-numeric: tabular-nums; }
.th-player .rail { position: relative; height: 22px; margin-top: 6px; }
.th-player .rail input { position: absolute; inset: 0; width: 100%; margin: 0; accent-color: #0072B2; }
.th-player .range { position: absolute; bottom: -3px; height: 4px; border-radius: 2px; background: #E69F00; }
.th-player .help { color: var(--jp-ui-font-color2, #555); font-size: 12px; margin-top: 4px; }
.th-player .fault { color: #D55E00; font-weight: bold; }`;

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
  const { alt, fps, frames, width } = model.get("facts");
  const media = model.get("media");
  const urls = ["a", "b"].filter((name) => media[name]).map((name) => address(media[name], "video/mp4"));
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches; // then a range is played once, not for ever
  const longest = Math.max(...frames);
  let state = { ...model.get("state") };
  let playing = false;
  let shown = -1; // the frame on the screen; -1 until there is one
  let ending = 0;

  const fault = make("div", { class: "fault", role: "alert" });
  const videos = urls.map((src, side) => {
    const video = make("video", { src, playsinline: "", preload: "auto", "aria-label": alt });
    video.addEventListener("error", () => { fault.textContent = "This browser cannot play the video (H.264)."; });
    video.addEventListener("ended", () => { if (side === state.side) atEnd(); });
    video.addEventListener("loadeddata", () => { if (side === state.side) show(state.frame); });
    return video;
  });
  const badge = make("div", { class: "badge", "aria-hidden": "true" });
  const stage = make("div", { class: "stage", onclick: () => toggle() }, ...videos);
  const button = (text, label, act) => make("button", { type: "button", "aria-label": label, title: label, onclick: act }, text);
  const back = button("◂ 1", "one frame back (,)", () => step(-1));
  const play = button("▶", "play (space)", () => toggle());
  const on = button("1 ▸", "one frame on (.)", () => step(1));
  const speed = make("select", { "aria-label": "speed", title: "speed (− +)", onchange: () => change({ speed: +speed.value }) });
  for (const value of [0.25, 0.5, 0.75, 1, 1.5, 2]) speed.append(make("option", { value }, `${value}×`));
  const from = button("[", "the loop begins at this frame ([)", () => change({ first: Math.min(now(), state.last) }));
  const to = button("]", "the loop ends at this frame (])", () => change({ last: Math.max(now(), state.first) }));
  const whole = button("[ all ]", "loop over all (\\)", () => change({ first: 0, last: longest - 1 }));
  const swap = button("A / B", "the other one, at the same time (b)", () => turn());
  const rail = make("input", { type: "range", min: 0, max: longest - 1, step: 1, "aria-label": "frame" });
  rail.addEventListener("input", () => { pause(); change({ frame: +rail.value }); });
  const range = make("div", { class: "range" });
  const where = make("span", { class: "where" });
  const keys = `space play · , . or ← → one frame · [ ] loop, \\ all · − + speed${urls.length > 1 ? " · b the other" : ""}`;
  const row = make("div", { class: "row" }, back, play, on, speed, from, to, whole);
  if (urls.length > 1) { row.append(swap); stage.append(badge); }
  row.append(where);
  const root = make("div", { class: "th-player", tabindex: 0, role: "group", "aria-label": alt },
    make("style", {}, STYLE), stage, fault, make("div", { class: "rail" }, rail, range), row, make("div", { class: "help" }, keys));
  root.style.width = `${width}px`;
  root.addEventListener("keydown", pressed);
  el.append(root);

  const current = () => videos[state.side];
  const within = (k, side = state.side) => Math.max(0, Math.min(k, frames[side] - 1));
  const now = () => within(Math.floor(current().currentTime * fps + 1e-3));

  function show(k) { // seeks into the middle of frame k, where rounding cannot miss it
    current().currentTime = (within(k) + 0.5) / fps;
    draw(within(k));
  }

  function draw(k) {
    shown = k;
    rail.value = k;
    rail.setAttribute("aria-valuetext", `frame ${k}, ${(k / fps).toFixed(2)} seconds`);
    where.textContent = `frame ${k} of ${frames[state.side]} · ${(k / fps).toFixed(2)} s`;
    root.dataset.frame = k;
    range.style.left = `${(100 * state.first) / longest}%`;
    range.style.width = `${(100 * (state.last + 1 - state.first)) / longest}%`;
    range.style.display = state.first > 0 || state.last < longest - 1 ? "" : "none";
    play.textContent = playing ? "❚❚" : "▶";
    play.setAttribute("aria-label", playing ? "pause (space)" : "play (space)");
    speed.value = state.speed;
    swap.setAttribute("aria-pressed", state.side === 1);
    badge.textContent = "AB"[state.side];
    badge.dataset.side = state.side;
    videos.forEach((video, side) => video.classList.toggle("hidden", side !== state.side));
  }

  function change(news, told = true) {
    const side = state.side;
    state = { ...state, ...news };
    videos.forEach((video) => { video.playbackRate = state.speed; });
    if (state.side !== side) {
      const time = videos[side].currentTime;
      videos[side].pause();
      current().currentTime = Math.min(time, (frames[state.side] - 0.5) / fps);
      if (playing) current().play();
    }
    if ("frame" in news) show(state.frame);
    else draw(now());
    if (told) tell();
  }

  function tell() {
    state.frame = shown;
    model.set("state", { ...state });
    model.save_changes();
  }

  function toggle() { if (playing) pause(); else start(); }

  function start() {
    if (now() >= Math.min(state.last, frames[state.side] - 1) || now() < state.first) show(state.first);
    playing = true;
    current().play().then(follow, () => { playing = false; });
    draw(shown);
  }

  function pause() {
    if (!playing) return;
    playing = false;
    clearTimeout(ending);
    current().pause();
    change({ frame: now() });
  }

  function step(by) {
    const k = now();
    pause();
    change({ frame: within(k + by) });
  }

  function turn() { if (urls.length > 1) change({ side: 1 - state.side }); }

  function follow() { // each frame that is shown, while it plays
    const video = current();
    video.requestVideoFrameCallback((_, { mediaTime }) => {
      if (!playing) return;
      const k = within(Math.round(mediaTime * fps));
      draw(k);
      clearTimeout(ending);
      const left = ((state.last + 1) / fps - mediaTime) / state.speed; // seconds
      if (left < 0.25) ending = setTimeout(atEnd, 1000 * Math.max(0, left));
      if (video === current()) follow(); else setTimeout(follow);
    });
  }

  function atEnd() {
    if (!playing) return;
    if (calm) return pause();
    show(state.first);
    current().play().then(follow, () => {});
  }

  function pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const inside = event.target !== root && event.target.matches("select, input");
    const acts = {
      " ": () => toggle(), ",": () => step(-1), ".": () => step(1), ArrowLeft: () => step(-1), ArrowRight: () => step(1),
      "[": () => from.click(), "]": () => to.click(), "\\": () => whole.click(), b: () => turn(),
      "-": () => faster(-1), "+": () => faster(1), "=": () => faster(1),
    };
    if (!acts[event.key] || (event.key === " " && event.target.matches("button, select"))) return;
    if (inside && event.target === speed && event.key.startsWith("Arrow")) return;
    event.preventDefault();
    event.stopPropagation();
    acts[event.key]();
  }

  function faster(by) {
    const values = [...speed.options].map((option) => +option.value);
    const at = values.findIndex((value) => value >= state.speed - 1e-6);
    change({ speed: values[Math.max(0, Math.min(values.length - 1, at + by))] });
  }

  const heard = () => {
    const told = model.get("state");
    if (Object.keys(told).some((key) => told[key] !== state[key])) change(told, false);
  };
  model.on("change:state", heard);
  change({}, false);
  return () => { model.off("change:state", heard); playing = false; urls.forEach((url) => URL.revokeObjectURL(url)); };
}

export default { render };
