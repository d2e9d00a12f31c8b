"""python sample.py --prompt 0 --seconds 6: motion of a prompt in prompts.npz, by numpy and onnxruntime alone, to joints.npy.

--text "a person waves" in place of --prompt: of any other, where the folder has a text encoder.
"""

import argparse
import json
import unicodedata
from pathlib import Path

import numpy as np

# signs that are words of their own: Chinese ones
CHINESE = (range(0x4E00, 0xA000), range(0x3400, 0x4DC0), range(0x20000, 0x2A6E0), range(0x2A700, 0x2B820),
           range(0x2B920, 0x2CEB0), range(0xF900, 0xFB00), range(0x2F800, 0x2FA20))  # fmt: skip


class Sampler:
    """The networks of a folder, with the loop around them. `suffix`: of the networks' names, such as `.int8`."""

    def __init__(self, folder, suffix="", threads=0):
        from onnxruntime import InferenceSession, SessionOptions

        options = SessionOptions()
        options.intra_op_num_threads = threads
        self.settings = json.loads((folder / "settings.json").read_text())
        self.numbers, self.prompts = np.load(folder / "loop.npz"), np.load(folder / "prompts.npz")
        paths = {name: folder / f"{name}{suffix}.onnx" for name in ("denoiser", "decoder", "text_encoder")}
        if "text" in self.settings:
            pieces = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
            self.pieces = {piece: i for i, piece in enumerate(pieces)}
        self.networks = {name: InferenceSession(path, options) for name, path in paths.items() if path.is_file()}

    def call(self, name, inputs):
        """What a network makes of those of the inputs that it takes."""
        network = self.networks[name]
        return network.run(None, {each.name: inputs[each.name] for each in network.get_inputs()})[0]

    def denoised(self, x, t, given):
        """The denoiser's answer (1, N, C) by classifier-free guidance: one call of two rows, without and with the prompt."""
        scale = self.settings["guidance_scale"]
        drop = np.array([True, False] if scale != 1 else [False])
        rows = {"x": x.astype(np.float32), "t": np.array([t]), "mask": np.ones(x.shape[:2], bool), **given}
        made = self.call("denoiser", {name: np.repeat(row, len(drop), 0) for name, row in rows.items()} | {"drop": drop})
        return made[:1] + scale * (made[-1:] - made[:1])

    def piece(self, tokens, given, draw):
        """What the sampler makes of noise (1, N, C), step by step."""
        x, before, numbers = draw((1, tokens, self.settings["channels"])), 0.0, self.numbers
        for i, t in enumerate(numbers["timesteps"]):
            w = {name: numbers[name][i] for name in numbers if name.startswith(("x0_", "next_"))}
            x0 = w["x0_of_x"] * x + w["x0_of_output"] * self.denoised(x, t, given)
            x = w["next_of_x"] * x + w["next_of_x0"] * x0 + w["next_of_previous"] * before
            if w["next_of_noise"]:
                x = x + w["next_of_noise"] * draw(x.shape)
            before = x0
        return x

    def read(self, text):
        """What the text encoder makes of a text: tokens (1, L, W), and their mean (1, W)."""
        reader = self.settings["text"]
        ids = word_pieces(text, self.pieces, reader["max_tokens"])
        tokens = self.call("text_encoder", {"ids": np.array([ids], np.int64)})
        pooled = tokens.mean(1)
        length = np.linalg.norm(pooled, axis=-1, keepdims=True) if reader["unit_length"] else 1.0
        return {"tokens": tokens, "text_mask": np.ones((1, len(ids)), bool), "pooled": pooled / length}

    def features(self, prompt, frames, draw):
        """Features (frames, D) of a text, or of a prompt by its number, in their units; draw(shape) gives normal noise."""
        settings, numbers = self.settings, self.numbers
        if isinstance(prompt, str):
            given = self.read(prompt)
        else:
            given = {name: self.prompts[name][prompt : prompt + 1] for name in self.prompts if name != "texts"}
        tokens = -(-(frames if settings["any_length"] else settings["max_frames"]) // settings["frames_per_token"])
        made = np.zeros((1, settings["context_len"], settings["channels"]), np.float32)
        while made.shape[1] < settings["context_len"] + tokens:  # once, but for models that go on from what they made (DiP)
            given["prefix"] = made[:, made.shape[1] - settings["context_len"] :].astype(np.float32)
            made = np.concatenate([made, self.piece(settings["pred_len"] or tokens, given, draw)], axis=1)
        x = made[:, settings["context_len"] :].astype(np.float32)
        if "decoder" in self.networks:
            x = self.call("decoder", {"x": x, "mask": np.ones(x.shape[:2], bool)})
        kernel = numbers["kernel"]
        columns = np.pad((x[0] * numbers["std"] + numbers["mean"])[:frames], ((len(kernel) // 2,) * 2, (0, 0)), mode="edge")
        return np.lib.stride_tricks.sliding_window_view(columns, len(kernel), axis=0) @ kernel


def word_pieces(text, pieces, max_tokens):
    """Ids of a text by BERT's uncased word pieces (Devlin et al. 2019), with the marks of start and end."""
    kind = unicodedata.category
    text = "".join(letter for letter in text if letter in "\t\n\r" or (kind(letter)[0] != "C" and letter != "\ufffd"))
    text = "".join(f" {letter} " if any(ord(letter) in signs for signs in CHINESE) else letter for letter in text)
    text = "".join(letter.lower() for letter in unicodedata.normalize("NFD", text) if kind(letter) != "Mn")
    text = "".join(f" {letter} " if kind(letter)[0] == "P" or letter in "$+<=>^`|~" else letter for letter in text)
    ids = []
    for word in text.split():
        found, start = [], 0
        while start < len(word) <= 100:  # the longest piece that is known, then the longest of what is left
            ends = range(len(word), start, -1)
            end = next((end for end in ends if "##" * (start > 0) + word[start:end] in pieces), None)
            if end is None:
                break
            found.append(pieces["##" * (start > 0) + word[start:end]])
            start = end
        ids += found if start == len(word) else [pieces["[UNK]"]]
    return [pieces["[CLS]"], *ids[: max_tokens - 2], pieces["[SEP]"]]


def joints_of(features, num_joints, metres_per_unit):
    """Joints (frames, J, 3) in metres, Y up, of humanml features (frames, D): root and positions, Guo et al. 2022, §3."""
    before = np.concatenate([np.zeros((1, 3)), features[:-1, :3]])  # what leads to a frame stands in the one before
    yaw = 2 * np.cumsum(before[:, :1], axis=0)
    cos, sin = np.cos(yaw), np.sin(yaw)
    root_x = np.cumsum(before[:, 1:2] * cos - before[:, 2:3] * sin, axis=0)
    root_z = np.cumsum(before[:, 1:2] * sin + before[:, 2:3] * cos, axis=0)
    x, y, z = features[:, 4 : 1 + 3 * num_joints].reshape(len(features), -1, 3).transpose(2, 0, 1)
    joints = [[root_x, root_x + cos * x - sin * z], [features[:, 3:4], y], [root_z, root_z + sin * x + cos * z]]
    return metres_per_unit * np.stack([np.hstack(axis) for axis in joints], axis=-1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompt", type=int, default=0, help="number of the prompt, from 0")
    parser.add_argument("--text", help="any other, which the text encoder reads")
    parser.add_argument("--seconds", type=float, default=6.0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    folder = Path(__file__).resolve().parent
    sampler = Sampler(folder)
    kind, body, texts = sampler.settings["features"], sampler.settings["body"], sampler.prompts["texts"]
    if asked.text and "text" not in sampler.settings:
        parser.error("--text: this folder has no text encoder")
    if not 0 <= asked.prompt < len(texts):
        parser.error(f"--prompt {asked.prompt}: expected 0 to {len(texts) - 1}")
    if not asked.seconds > 0 or asked.seed < 0:
        parser.error("expected --seconds above 0, and a --seed of 0 or more")
    frames = max(1, int(min(asked.seconds * kind["fps"], sampler.settings["max_frames"])))
    made = sampler.features(asked.text or asked.prompt, frames, np.random.default_rng(asked.seed).standard_normal)
    if kind["kind"] == "humanml":
        np.save(folder / "joints.npy", joints_of(made, **body))
    else:
        np.save(folder / "features.npy", made)
    print(f"{asked.text or texts[asked.prompt]}: {frames} frames at {kind['fps']:g} a second")


if __name__ == "__main__":
    main()
