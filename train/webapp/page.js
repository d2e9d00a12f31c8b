"use strict";
// The page: a text in, the motion in the player. What it is made of lies in the page itself, or in files beside it.

const app = JSON.parse(document.getElementById("app").textContent);
const $ = (id) => document.getElementById(id);
const CLIPS = /(<script type="application\/json" id="clips">)(.*?)(<\/script>)/s; // of the player
const SEEDS = 2 ** 32;
const tell = (words) => ($("told").textContent = words);
const rest = () => new Promise((done) => setTimeout(done)); // the page is drawn, then work goes on

/** What a file of the page holds. */
async function read(name) {
  const inside = $(name);
  if (!inside && location.protocol === "file:") throw new Error(app.serve);
  const stored = inside ? bytesOf(inside.textContent) : await fetched(`${name}.gz`);
  inside?.remove(); // is needed once, and large
  const unpacked = new Blob([stored]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(unpacked).arrayBuffer());
}

function bytesOf(base64) {
  const letters = atob(base64), bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}

async function fetched(name) {
  const answer = await fetch(name);
  if (!answer.ok) throw new Error(`${name} is not beside this page: ${answer.status}`);
  return answer.arrayBuffer();
}

async function opened() {
  tell("Reading the networks …");
  await rest();
  const script = URL.createObjectURL(new Blob([await read("onnxruntime.mjs")], { type: "text/javascript" }));
  const ort = await import(script);
  ort.env.wasm.numThreads = 1; // more need headers that neither a disk nor a simple server sends
  ort.env.wasm.wasmBinary = await read("onnxruntime.wasm");
  const networks = {};
  for (const name of app.networks) networks[name] = await ort.InferenceSession.create(await read(`${name}.onnx`));
  const pieces = new TextDecoder().decode(await read("vocab.txt")).split("\n");
  tell("");
  return new Sampler(ort, networks, app.settings, app.numbers, new WordPieces(pieces, app.settings.text.max_tokens));
}

/** draw(n): normal noise, the same of the same seed (mulberry32; Box and Muller 1958). */
function noiseOf(seed) {
  const uniform = () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let mixed = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / SEEDS;
  };
  const normal = () => Math.sqrt(-2 * Math.log(1 - uniform())) * Math.cos(2 * Math.PI * uniform());
  return (count) => Float64Array.from({ length: count }, normal);
}

/** Arrays as base64. */
function packed(...arrays) {
  const bytes = arrays.flatMap((array) => Array.from(new Uint8Array(array.buffer)));
  return btoa(bytes.map((byte) => String.fromCharCode(byte)).join(""));
}

/** Where the camera looks, x and z of each frame: at the middle of somebody who stays, else at the root, smoothed. */
function pathOf(roots, fps, size) {
  const middle = [0, 1].map((axis) => {
    const values = roots.map((root) => root[axis]);
    return (Math.min(...values) + Math.max(...values)) / 2;
  });
  if (roots.every(([x, z]) => Math.hypot(x - middle[0], z - middle[1]) < app.camera.still * size)) return roots.map(() => middle);
  const sigma = app.camera.smoothing * fps, reach = Math.ceil(3 * sigma);
  const kernel = Array.from({ length: 2 * reach + 1 }, (_, i) => Math.exp(-0.5 * ((i - reach) / sigma) ** 2));
  const sum = kernel.reduce((a, b) => a + b, 0);
  const at = (frame) => roots[Math.min(Math.max(frame, 0), roots.length - 1)];
  return roots.map((_, frame) => [0, 1].map((axis) =>
    kernel.reduce((total, weight, i) => total + (weight / sum) * at(frame + i - reach)[axis], 0)));
}

/** The player's page with joints (frames * J * 3) in place of the pose that it came with. */
function playerOf(joints, frames, caption) {
  const content = JSON.parse(app.player.match(CLIPS)[2]), [clip] = content.clips, [person] = clip.people;
  const size = joints.length / frames, { fps } = person;
  const counts = joints.map((value) => Math.round(value / person.step));
  const roots = new Int32Array(3 * frames), others = new Int16Array((size - 3) * frames);
  for (let i = 0, to = 0; i < joints.length; i++) {
    const frame = Math.floor(i / size), place = i % size;
    if (place < 3) roots[3 * frame + place] = counts[i];
    else others[to++] = counts[i] - counts[frame * size + place % 3];
  }
  const ways = Array.from({ length: frames }, (_, frame) => [joints[frame * size], joints[frame * size + 2]]);
  Object.assign(person, { frames, data: packed(roots, others) });
  Object.assign(clip, { path: packed(Float32Array.from(pathOf(ways, fps, clip.size).flat())), caption });
  Object.assign(content, { frames, sharedCaption: caption });
  const json = JSON.stringify(content).replace(/</g, "\\u003c");
  return app.player.replace(CLIPS, (_, before, __, after) => before + json + after);
}

async function make(sampler, text, seconds, seed) {
  const { fps } = app.settings.features;
  const frames = Math.min(Math.max(1, Math.floor(seconds * fps)), app.settings.max_frames);
  const started = performance.now();
  const features = await sampler.features(text, frames, noiseOf(seed), async (step, steps) => {
    tell(`Step ${step + 1} of ${steps} …`);
    await rest();
  });
  await show(playerOf(jointsOf(features, app.settings.body), frames, text));
  tell(`${frames} frames in ${((performance.now() - started) / 1000).toFixed(1)} s, seed ${seed}`);
}

/** The player with a page of its own, once that is there. */
function show(page) {
  const shown = new Promise((done) => $("player").addEventListener("load", done, { once: true }));
  $("player").srcdoc = page;
  return shown;
}

show(app.player);
const failed = (error) => tell(error.message);
const opening = opened();
opening.catch(failed);
$("ask").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("make").disabled = true;
  tell("Reading the text …");
  const seed = $("seed").value === "" ? Math.floor(SEEDS * Math.random()) : Number($("seed").value);
  await opening.then((sampler) => make(sampler, $("text").value, Number($("seconds").value), seed)).catch(failed);
  $("make").disabled = false;
});
