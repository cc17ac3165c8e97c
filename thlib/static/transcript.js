// A transcript to edit: waveform with the words heard, and under it their text; every key and click is one step.
// state {text: [[word, its number or -1]], times: [start, end, start, …], select: [first, last), past, future};
// facts {alt, words, duration, rate}; media {samples: int16}. `reduce` does what Transcript._step of show.py does.

const STYLE = `
.th-script { margin: 5px; max-width: 782px; font: 13px/1.4 var(--jp-ui-font-family, sans-serif); color: var(--jp-ui-font-color1, #111); }
.th-script :focus-visible { outline: 3px solid #0072B2; outline-offset: 2px; }
.th-script .scroll { overflow-x: auto; border: 1px solid #999; border-radius: 4px; background: #fff; color: #111; }
.th-script .wave { position: relative; height: 120px; }
.th-script .wave > * { position: absolute; top: 0; bottom: 20px; }
.th-script .wave canvas { top: 26px; width: 100%; height: 74px; }
.th-script .word { overflow: hidden; white-space: nowrap; text-align: center; padding-top: 3px; box-shadow: -1px 0 #0072B2; }
.th-script .word.chosen { background: rgba(0, 114, 178, 0.22); font-weight: bold; }
.th-script .word.gone { background: repeating-linear-gradient(45deg, transparent 0 6px, rgba(213, 94, 0, 0.25) 6px 8px); }
.th-script .gone { color: #B34700; text-decoration: line-through; }
.th-script .edge { width: 11px; margin-left: -5px; cursor: ew-resize; touch-action: none; }
.th-script .edge:is(:hover, :focus, .held) { background: linear-gradient(90deg, transparent 4px, #E69F00 4px 7px, transparent 7px); }
.th-script .cursor { border-left: 2px solid #D55E00; }
.th-script .wave .tick { top: auto; bottom: 0; font-size: 11px; color: #555; padding-left: 3px; border-left: 1px solid #999; }
.th-script .text { margin: 8px 0; padding: 6px; border: 1px solid #999; border-radius: 4px; font-size: 16px; line-height: 2; }
.th-script .text span { padding: 2px 5px; border-radius: 4px; }
.th-script :is(.word, .token, button:enabled) { cursor: pointer; }
.th-script .text .chosen { background: #0072B2; color: #fff; }
.th-script .text .new:not(.chosen) { color: #00734F; font-weight: bold; text-decoration: underline 2px #009E73; }
.th-script .text .caret { border-left: 2px solid #0072B2; border-radius: 0; padding: 2px 0; }
.th-script input { font: inherit; line-height: 1.4; width: 9em; border: 2px solid #009E73; border-radius: 4px; }
.th-script .row { display: flex; flex-wrap: wrap; gap: 6px; }
.th-script button { font: inherit; min-height: 28px; border: 1px solid #777; border-radius: 4px; background: none; color: inherit; }
.th-script button:disabled { opacity: 0.45; }
.th-script .small { color: var(--jp-ui-font-color2, #555); font-size: 12px; margin-top: 4px; }`;
const HELP = "← → select (shift: more) · Delete · Enter replace · i insert · Ctrl+Z undo · Ctrl+Y redo · space play · drag a boundary";

function dragged(times, number, to) {
  const k = Math.min(Math.max(number, 0), times.length - 1);
  let [a, b] = k % 2 === 0 ? [k - 1, k] : [k, k + 1];
  if (a < 0 || b === times.length || Math.abs(times[b] - times[a]) >= 0.001) [a, b] = [k, k];
  const low = a > 0 ? times[a - 1] + 0.02 * (a % 2) : 0; // a word keeps 20 ms
  const high = b + 1 < times.length ? times[b + 1] - 0.02 * (1 - (b % 2)) : to;
  return [...times].fill(Math.min(Math.max(to, low), Math.max(low, high)), a, b + 1);
}

export function reduce(facts, state, step) {
  const [[name, value]] = Object.entries(step);
  const { past, future, ...old } = state;
  const { text, times, select: [first, last] } = old;
  const inside = (k) => Math.min(Math.max(k, 0), text.length);
  if (name === "undo") return past.length ? { ...past.at(-1), past: past.slice(0, -1), future: [...future, old] } : state;
  if (name === "redo") return future.length ? { ...future.at(-1), past: [...past, old], future: future.slice(0, -1) } : state;
  if (name === "select") return { ...state, select: value.map(inside).sort((a, b) => a - b) };
  if (name === "drag" || name === "end") {
    const [k, to] = [2 * value[0] + (name === "end" ? 1 : 0), Math.min(Math.max(value[1], 0), facts.duration)];
    const moved = times.length ? dragged(times, k, to) : times;
    return moved.every((time, i) => time === times[i]) ? state : { ...old, times: moved, past: [...past, old], future: [] };
  }
  const [a, b] = name === "insert" ? [inside(value[1]), inside(value[1])] : [first, last];
  const words = (name === "delete" ? "" : name === "insert" ? value[0] : value).match(/[^ \t\r\n]+/g) ?? [];
  const next = [...text.slice(0, a), ...words.map((word) => [word, -1]), ...text.slice(b)];
  if (JSON.stringify(next) === JSON.stringify(text)) return state;
  return { ...old, text: next, select: [a, a + words.length], past: [...past, old], future: [] };
}

function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  node.dataset.lmSuppressShortcuts = "true"; // else JupyterLab takes the keys: i i would interrupt the kernel
  for (const [name, value] of Object.entries(attributes)) (name.startsWith("on") ? node[name] = value : node.setAttribute(name, value));
  node.append(...children); // strings become text nodes: a word is never HTML
  return node;
}

function render({ model, el }) {
  const facts = model.get("facts"), { alt, words, duration, rate } = facts;
  const { buffer, byteOffset, byteLength } = model.get("media").samples;
  const samples = Float32Array.from(new Int16Array(buffer.slice(byteOffset, byteOffset + byteLength)), (value) => value / 32768);
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches; // then no cursor runs
  const scale = Math.max(780, 45 * words.length, 60 * duration) / Math.max(duration, 0.01); // pixels a second
  let state = model.get("state");
  let anchor = state.select[0]; // where a selection that is being stretched began
  let [writing, sounding] = [null, null]; // an input that is open, an AudioContext that plays

  const canvas = make("canvas", { role: "img", "aria-label": alt });
  const cursor = make("div", { class: "cursor" });
  const placeOf = (k) => state.text.findIndex(([, number]) => number === k); // -1: deleted
  const picked = (k) => (event) => { if (placeOf(k) >= 0) choose(placeOf(k), event.shiftKey); };
  const boxes = words.map((word, k) => make("div", { class: "word", "aria-hidden": "true", onclick: picked(k) }, word));
  const edges = words.flatMap((word) => ["beginning", "end"].map((name) => `${name} of ${word}`)).map(handle);
  const wave = make("div", { class: "wave" }, canvas, cursor, ...boxes, ...edges);
  wave.style.width = `${duration * scale}px`;
  for (let second = 0; second < duration; second += scale > 150 ? 0.5 : 1) {
    wave.append(make("div", { class: "tick", style: `left: ${second * scale}px` }, `${second} s`));
  }
  const line = make("div", { class: "text", tabindex: 0, role: "listbox", "aria-multiselectable": "true", "aria-label": "words of the text",
    id: `th-${Math.random().toString(36).slice(2)}`, onkeydown: pressed });
  const says = make("div", { class: "small", role: "status", "aria-live": "polite" });
  const onmousedown = (event) => event.preventDefault(); // the words keep the keyboard
  const button = (text, title, onclick) => make("button", { type: "button", title, onclick, onmousedown }, text);
  const play = button("▶ play", "space", () => hear());
  const [cut, undo, redo] = ["delete", "undo", "redo"].map((name, k) => button(name, ["Delete", "Ctrl+Z", "Ctrl+Y"][k], () => act({ [name]: true })));
  const replace = button("replace …", "Enter", () => write("replace"));
  const insert = button("insert …", "i: before what is selected", () => write("insert"));
  const root = make("div", { class: "th-script", role: "group", "aria-label": alt, onkeydown: anywhere },
    make("style", {}, STYLE), make("div", { class: "scroll" }, wave), line,
    make("div", { class: "row" }, play, cut, replace, insert, undo, redo), says, make("div", { class: "small" }, HELP));
  el.append(root);

  function act(step) {
    state = reduce(facts, state, step);
    if (!step.select) anchor = state.select[0];
    draw();
    model.set("state", state);
    model.save_changes();
  }

  function draw() {
    const { text, times, select: [first, last] } = state;
    position(times);
    const kind = (at) => (at < 0 ? "word gone" : at >= first && at < last ? "word chosen" : "word");
    boxes.forEach((box, k) => { box.className = kind(placeOf(k)); });
    line.replaceChildren();
    let heard = 0; // how many of the words heard are on the line
    [...text, ["", words.length]].forEach(([word, k], at) => {
      const upto = text.slice(at).find(([, number]) => number >= 0)?.[1] ?? words.length;
      for (; heard < upto; heard += 1) line.append(make("span", { class: "gone", "aria-hidden": "true" }, words[heard]), " ");
      if (at === first && writing) line.append(writing);
      else if (at === first && first === last) line.append(make("span", { class: "caret" }));
      if (at === text.length) return;
      const look = `token${at >= first && at < last ? " chosen" : ""}${k < 0 ? " new" : ""}`;
      line.append(make("span", { class: look, role: "option", id: `${line.id}-${at}`, "aria-selected": at >= first && at < last,
        onclick: (event) => choose(at, event.shiftKey) }, word), " ");
      heard = Math.max(heard, k + 1);
    });
    line.setAttribute("aria-activedescendant", last > first ? `${line.id}-${last - 1}` : "");
    cut.disabled = replace.disabled = first === last;
    [undo.disabled, redo.disabled] = [!state.past.length, !state.future.length];
    root.dataset.text = text.map(([word]) => word).join(" ");
    says.textContent = `The text is now: ${root.dataset.text || "(empty)"}`;
  }

  function position(times) {
    const style = (k) => ({ left: `${times[2 * k] * scale}px`, width: `${(times[2 * k + 1] - times[2 * k]) * scale}px` });
    boxes.forEach((box, k) => Object.assign(box.style, style(k)));
    edges.forEach((edge, k) => { // where two words touch, the second's beginning is the handle of both
      edge.hidden = k % 2 === 1 && Math.abs(times[k + 1] - times[k]) < 0.001;
      edge.style.left = `${times[k] * scale}px`;
      edge.setAttribute("aria-valuenow", times[k].toFixed(3));
      edge.setAttribute("aria-valuetext", `${times[k].toFixed(2)} seconds`);
    });
  }

  function handle(name, k) { // a drag is one step: it is shown as it goes, and counts where it is let go
    const where = (event) => (event.clientX - wave.getBoundingClientRect().left) / scale;
    const node = make("div", { class: "edge", tabindex: 0, role: "slider", "aria-label": name, title: `${name}: drag, or ← →`,
      "aria-valuemin": 0, "aria-valuemax": duration });
    const move = (to) => { act({ [k % 2 ? "end" : "drag"]: [k >> 1, Math.round(1000 * to) / 1000] }); around(k); };
    node.addEventListener("pointerdown", (event) => { node.setPointerCapture(event.pointerId); node.classList.add("held"); });
    node.addEventListener("pointermove", (event) => {
      if (!node.classList.contains("held")) return;
      const times = dragged(state.times, k, Math.max(0, Math.min(duration, where(event))));
      position(times);
      says.textContent = `${name}: ${times[k].toFixed(2)} s`;
    });
    node.addEventListener("pointerup", (event) => { node.classList.remove("held"); move(where(event)); });
    node.addEventListener("keydown", (event) => {
      const by = { ArrowLeft: -0.01, ArrowRight: 0.01, " ": 0 }[event.key];
      if (by !== undefined) event.preventDefault();
      if (by) move(state.times[k] + by); else if (by === 0) around(k);
    });
    return node;
  }

  function around(edge) { // the two words at a boundary
    const { times } = state;
    sound([[times[2 * Math.max((edge - 1) >> 1, 0)], times[2 * Math.min((edge + 1) >> 1, words.length - 1) + 1]]]);
  }

  function hear() { // what is selected, else all: of the words that are left, as they were recorded
    if (sounding) return silence();
    const { text, times } = state;
    const [first, last] = state.select[0] < state.select[1] ? state.select : [0, text.length];
    const spans = [];
    text.slice(first, last).forEach(([, k], i, part) => {
      if (i && k >= 0 && k === part[i - 1][1] + 1 && k > 0) spans.at(-1)[1] = times[2 * k + 1];
      else if (k >= 0) spans.push(times.slice(2 * k, 2 * k + 2));
    });
    if (spans.length) sound(spans);
    else says.textContent = "New words have no sound yet: the pipeline makes it.";
  }

  function sound(spans) {
    silence();
    const context = sounding = new AudioContext();
    const buffer = new AudioBuffer({ length: samples.length, sampleRate: rate });
    buffer.copyToChannel(samples, 0);
    let until = 0.03;
    const plan = spans.map(([start, end]) => {
      const source = new AudioBufferSourceNode(context, { buffer });
      source.connect(context.destination);
      source.start(until, start, end - start);
      until += end - start;
      return { start, end, until };
    });
    root.dataset.heard = spans.map((span) => span.map((time) => time.toFixed(3)).join("-")).join(" ");
    play.textContent = "■ stop";
    (function run() {
      if (sounding !== context) return;
      const part = plan.find((one) => context.currentTime < one.until);
      if (!part) return silence();
      cursor.hidden = calm;
      cursor.style.left = `${(part.end - Math.min(part.until - context.currentTime, part.end - part.start)) * scale}px`;
      requestAnimationFrame(run);
    }());
  }

  function silence() {
    if (sounding) sounding.close();
    [sounding, cursor.hidden, play.textContent] = [null, true, "▶ play"];
  }

  function choose(at, more) {
    line.focus();
    if (!more) anchor = at;
    act({ select: at < anchor ? [at, anchor + 1] : [anchor, at + 1] });
  }

  function write(step) { // an input in the line; Enter takes it, Escape leaves all as it was
    const [first, last] = state.select;
    const input = make("input", { type: "text", "aria-label": step === "replace" ? "words instead of what is selected" : "words to insert" });
    input.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== "Escape") return;
      writing = null;
      act(event.key === "Escape" ? { select: [first, last] } : step === "replace" ? { replace: input.value } : { insert: [input.value, first] });
      line.focus();
    });
    writing = input;
    draw();
    input.focus();
  }

  function anywhere(event) {
    const name = (event.ctrlKey || event.metaKey) && !writing ? { z: "undo", y: "redo", Z: "redo" }[event.key] : undefined;
    if (name) { event.preventDefault(); act({ [name]: true }); }
  }

  function pressed(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target !== line) return;
    const count = state.text.length;
    const [first, last] = state.select;
    const [none, tip] = [first === last, anchor === first ? last - 1 : first]; // tip: the end that moves
    const go = (at) => {
      if (at >= count && !event.shiftKey) act({ select: [count, count] });
      else if (count) choose(Math.max(0, Math.min(count - 1, at)), event.shiftKey && !none);
    };
    const acts = {
      ArrowLeft: () => go((none ? first : tip) - 1), ArrowRight: () => go(none ? first : tip + 1), Home: () => go(0), End: () => go(count - 1),
      Delete: () => act({ delete: true }), Backspace: () => act({ delete: true }), " ": () => hear(), Escape: () => silence(),
      Enter: () => write(none ? "insert" : "replace"), i: () => write("insert"),
    };
    if (acts[event.key]) { event.preventDefault(); acts[event.key](); }
  }

  function drawSamples() { // least and greatest sample of each column
    Object.assign(canvas, { width: Math.min(Math.round(duration * scale), 16000), height: 74 });
    const [ink, each] = [canvas.getContext("2d"), samples.length / canvas.width];
    const loudest = samples.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-3);
    for (let x = 0; x < canvas.width; x += 1) {
      const part = samples.subarray(Math.floor(x * each), Math.floor((x + 1) * each) + 1);
      const [low, high] = [part.reduce((a, b) => Math.min(a, b), 0), part.reduce((a, b) => Math.max(a, b), 0)];
      ink.fillRect(x, 37 * (1 - high / loudest), 1, Math.max(1, 37 * (high - low) / loudest));
    }
  }

  const told = () => { // by the kernel
    if (JSON.stringify(model.get("state")) === JSON.stringify(state)) return;
    [state, writing, anchor] = [model.get("state"), null, model.get("state").select[0]];
    draw();
  };
  model.on("change:state", told);
  drawSamples();
  silence();
  draw();
  return () => { model.off("change:state", told); silence(); };
}

export default { render };
