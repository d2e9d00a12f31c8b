"use strict";
// The networks of a folder with the loop around them, and joints from features: the lines of onnx_sample.py, in JavaScript.

const sizeOf = (dims) => dims.reduce((product, size) => product * size, 1);

class Sampler {
  /** ort: onnxruntime; networks: its sessions by name; numbers: those of loop.npz, as lists; words: a WordPieces. */
  constructor(ort, networks, settings, numbers, words) {
    Object.assign(this, { ort, networks, settings, numbers, words });
  }

  tensor(type, data, dims) {
    return new this.ort.Tensor(type, data, dims);
  }

  trues(...dims) {
    return this.tensor("bool", new Uint8Array(sizeOf(dims)).fill(1), dims);
  }

  /** What a network makes of those of the inputs that it takes. */
  async call(name, inputs) {
    const network = this.networks[name];
    const { y } = await network.run(Object.fromEntries(network.inputNames.map((input) => [input, inputs[input]])));
    return y;
  }

  /** What the text encoder makes of a text: tokens (1, L, W), and their mean (1, W). */
  async read(text) {
    const ids = this.words.encode(text), count = ids.length;
    const tokens = await this.call("text_encoder", { ids: this.tensor("int64", BigInt64Array.from(ids, BigInt), [1, count]) });
    const width = tokens.dims[2], pooled = new Float32Array(width);
    tokens.data.forEach((value, i) => (pooled[i % width] += value / count));
    const length = this.settings.text.unit_length ? Math.hypot(...pooled) : 1;
    const whole = this.tensor("float32", pooled.map((value) => value / length), [1, width]);
    return { tokens, text_mask: this.trues(1, count), pooled: whole };
  }

  /** The denoiser's answer (N, C) by classifier-free guidance: one call of two rows, without and with the text. */
  async denoised(x, t, given) {
    const { channels, guidance_scale: scale } = this.settings;
    const drop = scale === 1 ? [0] : [1, 0], count = x.length / channels;
    const one = {
      x: this.tensor("float32", Float32Array.from(x), [1, count, channels]), mask: this.trues(1, count),
      t: this.tensor("int64", BigInt64Array.of(BigInt(t)), [1]), ...given,
    };
    const rows = Object.fromEntries(Object.entries(one).map(([name, row]) => [name, this.repeated(row, drop.length)]));
    const { data } = await this.call("denoiser", { ...rows, drop: this.tensor("bool", Uint8Array.from(drop), [drop.length]) });
    const last = data.length - x.length;
    return Float64Array.from(x, (_, i) => data[i] + scale * (data[last + i] - data[i]));
  }

  repeated({ type, data, dims }, times) {
    const rows = new data.constructor(times * data.length);
    for (let row = 0; row < times; row++) rows.set(data, row * data.length);
    return this.tensor(type, rows, [times, ...dims.slice(1)]);
  }

  /** What the sampler makes of noise (N, C), step by step. */
  async piece(count, given, draw, tell) {
    const { numbers } = this, size = count * this.settings.channels;
    let x = draw(size), before = new Float64Array(size);
    for (const [i, t] of numbers.timesteps.entries()) {
      await tell(i, numbers.timesteps.length);
      const answer = await this.denoised(x, t, given);
      const x0 = answer.map((value, k) => numbers.x0_of_x[i] * x[k] + numbers.x0_of_output[i] * value);
      const fresh = numbers.next_of_noise[i] ? draw(size) : null;
      x = x0.map((value, k) => numbers.next_of_x[i] * x[k] + numbers.next_of_x0[i] * value
        + numbers.next_of_previous[i] * before[k] + (fresh ? numbers.next_of_noise[i] * fresh[k] : 0));
      before = x0;
    }
    return x;
  }

  /** Features [(D), ...] of a text, a row a frame, in their units. draw(n) gives n numbers of normal noise. */
  async features(text, frames, draw, tell = () => {}) {
    const { settings } = this, { channels, context_len: context } = settings;
    const given = await this.read(text);
    const count = Math.ceil((settings.any_length ? frames : settings.max_frames) / settings.frames_per_token);
    let made = new Float64Array(context * channels);
    while (made.length < (context + count) * channels) { // once, but for models that go on from what they made (DiP)
      const prefix = Float32Array.from(made.subarray(made.length - context * channels));
      given.prefix = this.tensor("float32", prefix, [1, context, channels]);
      const piece = await this.piece(settings.pred_len || count, given, draw, tell);
      const longer = new Float64Array(made.length + piece.length);
      longer.set(made);
      longer.set(piece, made.length);
      made = longer;
    }
    let x = Float32Array.from(made.subarray(context * channels));
    if (this.networks.decoder) {
      const tokens = x.length / channels;
      x = (await this.call("decoder", { x: this.tensor("float32", x, [1, tokens, channels]), mask: this.trues(1, tokens) })).data;
    }
    return this.smoothed(x, frames);
  }

  /** Rows of columns in their units from normalised ones, weighed by the kernel along time; the ends are held. */
  smoothed(x, frames) {
    const { mean, std, kernel } = this.numbers, width = mean.length, half = (kernel.length - 1) / 2;
    const at = (frame, column) => x[Math.min(Math.max(frame, 0), frames - 1) * width + column] * std[column] + mean[column];
    return Array.from({ length: frames }, (_, frame) => Float64Array.from(mean, (_, column) =>
      kernel.reduce((sum, weight, k) => sum + weight * at(frame + k - half, column), 0)));
  }
}

/** Joints (frames * J * 3) in metres, Y up, of humanml features [(D), ...]: root and positions, Guo et al. 2022, §3. */
function jointsOf(features, { num_joints: count, metres_per_unit: metres }) {
  const joints = new Float64Array(3 * count * features.length);
  let yaw = 0, rootX = 0, rootZ = 0, before = [0, 0, 0]; // what leads to a frame stands in the one before
  features.forEach((row, frame) => {
    yaw += 2 * before[0];
    const cos = Math.cos(yaw), sin = Math.sin(yaw);
    rootX += before[1] * cos - before[2] * sin;
    rootZ += before[1] * sin + before[2] * cos;
    for (let joint = 0; joint < count; joint++) {
      const [x, y, z] = joint ? row.subarray(1 + 3 * joint, 4 + 3 * joint) : [0, row[3], 0];
      const place = [rootX + cos * x - sin * z, y, rootZ + sin * x + cos * z];
      place.forEach((value, axis) => (joints[3 * (count * frame + joint) + axis] = metres * value));
    }
    before = row;
  });
  return joints;
}
