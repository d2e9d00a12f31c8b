"""python -m benchmarks.online: milliseconds in which four frames of a reaction are made while the action goes on.

A call is the whole path: semantics and encoders of the action, the past as latents, sampling, decoding, placing in the world. The
reference is the uncached recipe: in every step of sampling the network reads the whole past anew, through torch's attention. Both
have the same weights and noise, and have to come to the same motion.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from data_loaders.features import Statistics
from diffusion.guidance import weighted
from diffusion.meanflow import MeanVelocity
from model.autoencoder import MotionAutoencoder
from model.autoencoder_config import AutoencoderConfig
from model.capabilities import Decoding, Request
from model.checkpoints import from_pretrained
from model.reaction import Reaction
from model.reaction_base import Passes
from model.reaction_config import ONLINE, ReactionConfig
from model.reaction_flow import FlowDenoiser
from protos.flags import SAMPLING_STEPS, Range
from protos.options import command, run_command
from tests.pairs import PAIR, two_walkers


def read_anew(network: FlowDenoiser, asked: Passes, z: Tensor, r: Tensor, t: Tensor) -> Tensor:
    """What the network answers (B, 1, Z) to z (B, 1, Z): all tokens in one sequence, nothing kept, layers as in the textbook."""
    action = asked.action.without(asked.drop)
    condition = network.embed_latent(action.latent)
    if network.text_projection is not None:
        pooled = torch.zeros(len(z), network.text_projection.in_features) if asked.text is None else asked.text.pooled
        condition = condition + network.text_projection(pooled.masked_fill(asked.drop_text[:, None], 0))
    told = action.motion if action.semantics is None else torch.cat([action.motion, action.semantics], dim=-1)
    pieces = told[:, :-1].reshape(len(z), asked.past.shape[1], -1)  # (B, N, piece D)
    past = network.embed_before(pieces) + network.input_projection(asked.past)
    x = torch.cat([condition[:, None], past, network.embed_now(told[:, -1:]), network.input_projection(z)], dim=1)
    x = x + network.positions
    hidden = ~F.pad(asked.mask, (1, 2), value=True)
    later = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
    shifts = network.modulation(network.given(r, t, condition), None, None)  # (B, layers, 9, C)
    for number, layer in enumerate(network.layers):
        of_last = F.pad(shifts[:, number, :, None], (0, 0, x.shape[1] - 1, 0))  # (B, 9, M + 1, C): of the latent alone
        (shift, scale, gate), (shift2, scale2, gate2) = of_last[:, :3].unbind(1), of_last[:, 6:].unbind(1)
        y = (layer.norm_self(x) * (1 + scale) + shift).transpose(0, 1)
        own = layer.self_attention
        y, _ = F.multi_head_attention_forward(
            y, y, y, y.shape[-1], own.num_heads, own.qkv.weight, own.qkv.bias, None, None, False, 0.0, own.out.weight,
            own.out.bias, training=False, key_padding_mask=hidden, need_weights=False, attn_mask=later)  # fmt: skip
        x = x + (1 + gate) * y.transpose(0, 1)
        x = x + (1 + gate2) * layer.linear2(F.gelu(layer.linear1(layer.norm_ff(x) * (1 + scale2) + shift2)))
    return network.output_projection(network.final_norm(x))[:, -1:]


class Uncached(Reaction):
    """A model that reads the whole past anew in every step."""

    def flow(self, asked: Passes) -> MeanVelocity:
        return weighted(lambda z, r, t: read_anew(self.denoiser, asked, z, r, t), asked.weights)


@dataclass(frozen=True, kw_only=True)
class OnlineBenchmark:
    """Time reactions that are made while the action goes on."""

    sampling_steps: tuple[Annotated[int, SAMPLING_STEPS], ...] = (1, 2, 4)
    """Steps of sampling to time."""
    pieces: Annotated[int, Range(1, 100_000)] = 60
    """Calls that are timed, of four frames each."""
    warm: Annotated[int, Range(0, 100_000)] = 15
    """Calls before them."""
    threads: Annotated[int, Range(1, 1024)] = 1
    """Threads of torch."""
    model_path: Path | None = None
    """Checkpoint of train.train_reaction --preset online (default: untrained weights of that preset's size)."""


def untrained() -> Reaction:
    """The online preset over a small causal autoencoder, with random weights."""
    torch.manual_seed(0)
    width = PAIR.persons * PAIR.width
    statistics = Statistics(np.zeros(width, np.float32), np.full(width, 0.5, np.float32), PAIR)
    sizes = AutoencoderConfig(causal=True, width=128, num_blocks=2, fine_width=64, features=PAIR)
    config = ReactionConfig(**ONLINE, features=PAIR, text_dim=384, max_frames=9000)
    return Reaction(config, statistics, {"autoencoder": MotionAutoencoder(sizes, statistics)}).eval()


def answers(model: Reaction, actor: Tensor, decoding: Decoding) -> Iterator[tuple[float, Tensor]]:
    """Milliseconds and features (4, D) of every call with the next frames of the action (T, D)."""
    stream = model.stream(actor.split(model.config.pred_len), Request("", 0, seed=1), decoding)
    start = time.perf_counter()
    for piece in stream:
        now = time.perf_counter()
        yield 1000 * (now - start), piece
        start = time.perf_counter()


def run(options: OnlineBenchmark) -> None:
    """Prints a line for each number of steps. ValueError for a checkpoint that makes frames, or a reaction as a whole."""
    torch.set_num_threads(options.threads)
    model = untrained() if options.model_path is None else from_pretrained(options.model_path, systems=("reaction",))
    if not model.config.in_latents:
        raise ValueError(f"{options.model_path}: not trained with --preset online, whose latents are timed here")
    reference = Uncached(model.config, model.statistics, model.parts).eval()
    reference.networks.load_state_dict(model.networks.state_dict())
    features = model.features
    frames = model.config.pred_len * (options.warm + options.pieces)
    people = torch.tensor(two_walkers(frames + 1), dtype=torch.float32)
    actor = features.encode(people)[:, : features.width]
    length = 1000 * model.config.pred_len / features.fps
    print(f"{model.config.pred_len} frames are {length:.0f} ms of motion; milliseconds a call, {options.threads} thread(s)")
    print(f"{'':12}{'median':>9}{'95 of 100':>11}{'uncached':>10}{'apart by':>10}")
    for steps in options.sampling_steps:
        ours, theirs = (list(answers(each, actor, Decoding(sampling_steps=steps)))[options.warm :] for each in (model, reference))
        took, plain = ([each for each, _ in calls] for calls in (ours, theirs))
        gap = max(float((a - b).abs().max()) for (_, a), (_, b) in zip(ours, theirs, strict=True))
        figures = np.median(took), np.quantile(took, 0.95), np.median(plain)
        print(f"{f'{steps} step(s)':12}{figures[0]:9.1f}{figures[1]:11.1f}{figures[2]:10.1f}{gap:10.1e}", flush=True)


main = command(OnlineBenchmark, run, __doc__)

if __name__ == "__main__":
    run_command(main)
