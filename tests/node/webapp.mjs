// What the scripts of the page of train.export --webapp make of a question on standard input, as JSON:
// {scripts, vocabulary, maxTokens, texts} -> ids of each text; with {runtime, folder, networks, settings, numbers, noise, frames}
// too -> joints of each, by onnxruntime-web and the networks of the folder, with the noise that is given.
import fs from "node:fs";
import path from "node:path";
import vm from "node:vm";

const asked = JSON.parse(fs.readFileSync(0, "utf8"));
for (const script of asked.scripts) vm.runInThisContext(fs.readFileSync(script, "utf8"));
const words = vm.runInThisContext("(...given) => new WordPieces(...given)")(
  fs.readFileSync(asked.vocabulary, "utf8").split("\n"), asked.maxTokens);

async function joints() {
  const ort = await import(path.join(asked.runtime, "ort.wasm.bundle.min.mjs"));
  ort.env.wasm.numThreads = 1;
  ort.env.wasm.wasmBinary = fs.readFileSync(path.join(asked.runtime, "ort-wasm-simd-threaded.wasm"));
  const networks = {};
  for (const name of asked.networks) {
    networks[name] = await ort.InferenceSession.create(fs.readFileSync(path.join(asked.folder, `${name}.onnx`)));
  }
  const sampler = vm.runInThisContext("(...given) => new Sampler(...given)")(ort, networks, asked.settings, asked.numbers, words);
  const jointsOf = vm.runInThisContext("jointsOf");
  const made = [];
  for (const [i, text] of asked.texts.entries()) {
    const noise = asked.noise[i];
    const draw = (count) => {
      const drawn = Float64Array.from(noise.shift());
      if (drawn.length !== count) throw new Error(`${count} numbers of noise were asked for, ${drawn.length} expected`);
      return drawn;
    };
    made.push(Array.from(jointsOf(await sampler.features(text, asked.frames[i], draw), asked.settings.body)));
  }
  return made;
}

console.log(JSON.stringify(asked.runtime ? await joints() : asked.texts.map((text) => words.encode(text))));
