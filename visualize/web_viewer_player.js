// The player: time, camera and controls. `window.viewer` lets a page around it play, pause and seek.

const data = JSON.parse(document.getElementById("clips").textContent);
const $ = (id) => document.getElementById(id);
const smallFrame = matchMedia("(max-height: 330px)"); // as in the style
const reducedMotion = matchMedia("(prefers-reduced-motion: reduce)").matches;
const toggles = { loop: true, follow: true, trail: true, ghosts: false, smooth: true };
const START_ELEVATION = data.elevation;
const VIEWS = { // from which side of whom, radians
  default: { from: "default", turn: 0, elevation: START_ELEVATION },
  front: { from: "front", turn: 0, elevation: 0.05 },
  left: { from: "front", turn: Math.PI / 2, elevation: 0.05 },
  right: { from: "front", turn: -Math.PI / 2, elevation: 0.05 },
  behind: { from: "front", turn: Math.PI, elevation: 0.05 },
  top: { from: "front", turn: Math.PI, elevation: Math.PI / 2 },
};

let seconds = 0, playing = false, speed = 1, lastTick = 0, scheduled = false, ink = null;
// the same for all clips, so that they compare: `turn` counts from each clip's own side `from`, `pan` is in metres
const camera = { ...VIEWS.default, fitted: VIEWS.default, zoom: 1, pan: [0, 0, 0] };

// --- clips ---

const panels = data.clips.map((clip, i) => {
  const figure = document.createElement("figure");
  const caption = document.createElement("figcaption");
  caption.dir = "auto";
  caption.textContent = clip.caption; // text, never markup
  caption.hidden = data.sharedCaption !== null || !clip.caption;
  const canvas = document.createElement("canvas");
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "img");
  const note = document.createElement("span");
  note.className = "note";
  figure.append(caption, canvas, note);
  $("stage").append(figure);
  const name = [clip.label, clip.caption || data.sharedCaption].filter(Boolean).join(": ") || `motion ${i + 1}`;
  canvas.setAttribute("aria-label", `3D view of ${name}; drag or use W A S D to orbit`);
  const scene = new Scene(clip, data.palettes, data.fps, data.light, data.haze, data.mesh);
  return { clip, figure, canvas, note, scene, pen: canvas.getContext("2d", { alpha: false }), distance: 1 };
});
if (data.sharedCaption) {
  $("caption").textContent = data.sharedCaption;
  $("caption").hidden = false;
}

function legend() {
  const people = Math.max(...data.clips.map((clip) => clip.people.length));
  if (!data.clips.some((clip) => clip.bodies.some((body) => body.sides.some((side) => SIDES[side] !== "middle")))) return;
  $("legend").replaceChildren(...Array.from({ length: Math.min(people, data.palettes.length) }, (_, i) => {
    const entry = document.createElement("span");
    if (people > 1) entry.append(i + 1);
    for (const side of [0, 1]) {
      const spot = document.createElement("i");
      spot.style.background = rgb(ink.raised(data.palettes[i][side]));
      entry.append(spot, SIDES[side]);
    }
    return entry;
  }));
}

/** Rows and columns with the largest pictures; pictures too small to judge scroll instead. */
function layout() {
  const { clientWidth: width, clientHeight: height } = $("stage");
  let best = { side: 0, columns: 1 };
  for (let columns = 1; columns <= panels.length; columns++) {
    const side = Math.min(width / columns, (1.1 * height) / Math.ceil(panels.length / columns));
    if (side > best.side + 1) best = { side, columns };
  }
  $("stage").style.gridTemplateColumns = `repeat(${best.columns}, minmax(0, 1fr))`;
  $("stage").style.gridAutoRows = "minmax(170px, 1fr)";
}

function resize() {
  layout();
  const density = Math.min(devicePixelRatio || 1, 2);
  for (const { canvas } of panels) {
    canvas.width = Math.max(Math.round(canvas.clientWidth * density), 1);
    canvas.height = Math.max(Math.round(canvas.clientHeight * density), 1);
  }
  fit();
}

/** Distances from which every clip is seen whole; one for all, unless that would dwarf somebody. */
function fit() {
  for (const panel of panels) {
    const { canvas, scene } = panel;
    const view = camera.fitted;
    const azimuth = scene.angles[view.from] + view.turn;
    panel.distance = scene.fit(azimuth, view.elevation, toggles.follow, canvas.width, canvas.height, LENS * canvas.height);
  }
  const distances = panels.map((panel) => panel.distance), farthest = Math.max(...distances);
  if (farthest < 1.6 * Math.min(...distances)) panels.forEach((panel) => (panel.distance = farthest));
  redraw();
}

function eyeOf({ scene, canvas, distance }) {
  const base = scene.angles[camera.from];
  const [sin, cos] = [Math.sin(base), Math.cos(base)];
  const [x, y, z] = camera.pan;
  const pan = [cos * x + sin * z, y, cos * z - sin * x];
  const target = scene.target(seconds, toggles.follow).map((value, axis) => value + pan[axis]);
  const middle = [canvas.width / 2, canvas.height / 2];
  return new Eye(base + camera.turn, camera.elevation, target, distance * camera.zoom, LENS * canvas.height, middle);
}

// --- time ---

const lastFrame = data.frames - 1;
const frameNow = () => Math.min(Math.floor(seconds * data.fps + 1e-3), lastFrame);

function seek(frame) {
  seconds = clamp(Math.round(frame), 0, lastFrame) / data.fps;
  redraw();
}

function play(on = !playing) {
  if (on && !toggles.loop && frameNow() >= lastFrame) seconds = 0;
  if (!on && playing) seek(frameNow()); // rest on a real frame
  if (on && !playing) lastTick = performance.now();
  playing = on;
  document.body.classList.toggle("playing", on);
  $("play").setAttribute("aria-label", on ? "Pause" : "Play");
  redraw();
}

function step(frames) {
  play(false);
  const frame = frameNow() + frames;
  const count = data.frames;
  seek(toggles.loop && Math.abs(frames) === 1 ? (frame + count) % count : frame);
}

function setSpeed(index) {
  const select = $("speed");
  select.selectedIndex = clamp(index, 0, select.options.length - 1);
  speed = Number(select.value);
}

/** A page at rest costs nothing: frames are asked for only while something moves. */
function redraw() {
  if (!scheduled) requestAnimationFrame(tick);
  scheduled = true;
}

function tick(now) {
  scheduled = false;
  const passed = clamp((now - lastTick) / 1000, 0, 0.25); // a tab that slept does not jump
  lastTick = now;
  if (playing) {
    seconds += passed * speed;
    const end = data.frames / data.fps; // the last frame is shown as long as the others
    if (seconds >= end) {
      if (toggles.loop) seconds %= end;
      else {
        play(false);
        seek(lastFrame);
      }
    }
  }
  draw();
  if (playing) redraw();
}

function draw() {
  const frame = frameNow();
  // between frames only while playing: what is judged at rest are frames of the motion
  const moment = playing && toggles.smooth ? Math.min(seconds, lastFrame / data.fps) : frame / data.fps;
  for (const panel of panels) {
    const { scene, canvas, pen, note, clip } = panel;
    scene.draw(pen, eyeOf(panel), moment, { ...toggles, smooth: toggles.smooth && playing }, ink, canvas.width, canvas.height);
    const grid = `grid ${Number(scene.spacing.toPrecision(1))} m`;
    const isOver = scene.seconds < data.frames / data.fps - 1e-6 && moment >= scene.seconds;
    const over = isOver ? `ended at ${scene.seconds.toFixed(2)} s` : "";
    const words = [clip.label, over, grid].filter(Boolean).join(" · ");
    if (note.textContent !== words) note.textContent = words;
  }
  const time = `${(frame / data.fps).toFixed(2)} s`;
  $("scrub").value = frame;
  $("scrub").setAttribute("aria-valuetext", `frame ${frame} of ${lastFrame}, ${time}`);
  $("counter").firstChild.data = `${String(frame).padStart(String(lastFrame).length, "\u2007")} / ${lastFrame} · ${time} `;
}

// --- camera ---

function setView(name) {
  Object.assign(camera, VIEWS[name], { fitted: VIEWS[name], zoom: 1, pan: [0, 0, 0] });
  $("view").value = name;
  fit();
}

function orbit(right, up) {
  camera.turn -= right;
  camera.elevation = clamp(camera.elevation + up, -Math.PI / 2, Math.PI / 2);
  $("view").value = "free";
  redraw();
}

function pan(panel, right, down) { // CSS pixels; the floor stays under the pointer
  const metres = (panel.distance * camera.zoom) / (LENS * panel.canvas.clientHeight);
  const local = new Eye(camera.turn, camera.elevation, [0, 0, 0], 1, 1, [0, 0]);
  camera.pan = camera.pan.map((value, axis) => value - (right * local.right[axis] - down * local.up[axis]) * metres);
  redraw();
}

function zoom(factor) {
  camera.zoom = clamp(camera.zoom * factor, 0.15, 12);
  redraw();
}

for (const panel of panels) {
  const { canvas } = panel;
  const pointers = new Map();
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.clientX, event.clientY]);
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = pointers.get(event.pointerId);
    if (!before) return;
    const here = [event.clientX, event.clientY];
    const [x, y] = [here[0] - before[0], here[1] - before[1]];
    if (pointers.size === 1) {
      if (event.shiftKey || event.buttons & 6) pan(panel, x, y);
      else orbit(0.008 * x, 0.008 * y);
    } else {
      const [other] = [...pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      const spread = (place) => Math.max(Math.hypot(place[0] - other[0], place[1] - other[1]), 1);
      zoom(spread(before) / spread(here));
      pan(panel, x / 2, y / 2); // the middle of two fingers moves half as far as one of them
    }
    pointers.set(event.pointerId, here);
  });
  for (const end of ["pointerup", "pointercancel", "lostpointercapture"]) {
    canvas.addEventListener(end, (event) => pointers.delete(event.pointerId));
  }
  canvas.addEventListener("wheel", (event) => {
    if (smallFrame.matches && !event.ctrlKey) return; // the page around it scrolls
    event.preventDefault();
    const pixels = event.deltaY * (event.deltaMode === 1 ? 16 : event.deltaMode === 2 ? 400 : 1);
    zoom(Math.exp(clamp(pixels, -200, 200) * (event.ctrlKey ? 0.01 : 0.0015))); // ctrl: a trackpad's pinch
  }, { passive: false });
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("dblclick", refit);
}

function refit() {
  const name = $("view").value;
  setView(name === "free" ? "default" : name);
}

// --- controls ---

function toggle(name) {
  toggles[name] = !toggles[name];
  $(name).setAttribute("aria-pressed", toggles[name]);
  if (name === "follow") fit();
  redraw();
}

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  const style = getComputedStyle(document.documentElement);
  const read = (colour) => style.getPropertyValue(`--${colour}`).trim().split(/\s+/).map(Number);
  ink = Object.fromEntries(["backdrop", "floor", "line", "trail", "shadow"].map((colour) => [colour, read(colour)]));
  const lift = Number(style.getPropertyValue("--lift"));
  ink.raised = (colour) => { // dark limbs would vanish on a dark ground
    const light = (0.3 * colour[0] + 0.6 * colour[1] + 0.1 * colour[2]) / 255;
    return lift ? mix(colour, [255, 255, 255], lift * clamp(0.75 - 1.4 * light, 0.12, 0.6)) : colour;
  };
  legend();
  redraw();
}

const darkScheme = matchMedia("(prefers-color-scheme: dark)");
const nightNow = () => document.documentElement.dataset.theme === "dark";
darkScheme.addEventListener("change", (event) => setTheme(event.matches ? "dark" : "light"));

function help() {
  $("keys").hidden = !$("keys").hidden;
  $("help").setAttribute("aria-expanded", !$("keys").hidden);
}

const actions = {
  " ": () => play(), k: () => play(),
  ArrowLeft: (event) => step(event.shiftKey ? -10 : -1), ArrowRight: (event) => step(event.shiftKey ? 10 : 1),
  Home: () => step(-data.frames), End: () => step(data.frames),
  "[": () => setSpeed($("speed").selectedIndex - 1), "]": () => setSpeed($("speed").selectedIndex + 1),
  w: () => orbit(0, 0.1), s: () => orbit(0, -0.1), a: () => orbit(0.1, 0), d: () => orbit(-0.1, 0),
  "+": () => zoom(1 / 1.15), "=": () => zoom(1 / 1.15), "-": () => zoom(1.15), 0: refit,
  l: () => toggle("loop"), f: () => toggle("follow"), t: () => toggle("trail"), g: () => toggle("ghosts"),
  i: () => toggle("smooth"), "?": help, h: help, n: () => setTheme(nightNow() ? "light" : "dark"),
};
Object.keys(VIEWS).forEach((name, i) => (actions[i + 1] = () => setView(name)));

addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
  if (event.key === " " && event.target.tagName === "BUTTON") return; // presses it
  const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
  if (!action) return;
  event.preventDefault();
  action(event);
});

const onClick = {
  play: () => play(), back: () => step(-1), forward: () => step(1), reset: refit, help,
  theme: () => setTheme(nightNow() ? "light" : "dark"),
};
for (const name of Object.keys(toggles)) onClick[name] = () => toggle(name);
for (const [id, action] of Object.entries(onClick)) {
  $(id).addEventListener("click", (event) => {
    action();
    if (event.detail) $(id).blur(); // after a mouse, space plays again instead of pressing the button
  });
}
$("scrub").max = lastFrame;
$("scrub").addEventListener("input", () => {
  play(false);
  seek(Number($("scrub").value));
});
const choices = { speed: () => setSpeed($("speed").selectedIndex), view: () => setView($("view").value) };
let byPointer = false; // then arrows are to step frames again, not to change the choice; a keyboard keeps its place
addEventListener("pointerdown", () => (byPointer = true), true);
addEventListener("keydown", () => (byPointer = false), true);
for (const [id, choose] of Object.entries(choices)) {
  $(id).addEventListener("change", () => {
    choose();
    if (byPointer) $(id).blur();
  });
}

const rate = document.createElement("small");
rate.textContent = `${Number(data.fps.toFixed(2))} fps`;
$("counter").append("", rate);
$("counter").title = `${data.frames} frames, ${(data.frames / data.fps).toFixed(2)} s; frames count from 0`;

setTheme(darkScheme.matches ? "dark" : "light");
new ResizeObserver(resize).observe($("stage"));
resize();
play(!reducedMotion && data.frames > 1);

window.viewer = {
  play: () => play(true),
  pause: () => play(false),
  seek: (frame) => { play(false); seek(frame); },
  state: () => ({ frame: frameNow(), seconds, playing, speed, camera: { ...camera }, toggles: { ...toggles } }),
  joint: (clip, person, frame, joint) => {
    const { joints, count } = panels[clip].scene.people[person];
    return Array.from(joints.slice(3 * (frame * count + joint), 3 * (frame * count + joint) + 3));
  },
};
