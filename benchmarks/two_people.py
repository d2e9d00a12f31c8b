"""python -m benchmarks.two_people: CPU seconds of in2IN's denoiser at its published size, beside torch's own layers.

The reference is what the published recipe computes: one person after the other through torch's attention, the four passes of
guidance one after the other. Both have the same weights and have to come to the same numbers. With --model_path: how far few
steps of a checkpoint end from many, and how long they take.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.timing import cost, least
from model.capabilities import Decoding, Guidance, Request
from model.in2in import SHOWN, In2IN
from model.in2in_config import In2INConfig
from model.in2in_network import PeopleDenoiser
from model.layers import sinusoidal_table
from model.official.in2in import in2in_name
from protos.flags import FRAMES, LAYERS, SAMPLING_STEPS, Range
from protos.options import command, run_command

GUIDANCE = Guidance(3.0, 3.0, 1.0)


class Norm(nn.Module):
    def __init__(self, dim: int):
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=1e-6, elementwise_affine=False)
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(dim, 2 * dim))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        scale, shift = self.emb_layers(condition)[:, None].chunk(2, dim=-1)
        return self.norm(x) * (1 + scale) + shift


class Attend(nn.Module):
    def __init__(self, dim: int, heads: int, other: bool):
        super().__init__()
        self.norm, self.xf_norm = Norm(dim), Norm(dim) if other else None
        self.attention = nn.MultiheadAttention(dim, heads, add_zero_attn=True, batch_first=True)

    def forward(self, x: Tensor, condition: Tensor, other: Tensor | None = None) -> Tensor:
        query = self.norm(x, condition)
        key = query if other is None else self.xf_norm(other, condition)
        return self.attention(query, key, key, need_weights=False)[0]


class FeedForward(nn.Module):
    def __init__(self, dim: int, ff_size: int):
        super().__init__()
        self.norm, self.linear1, self.linear2 = Norm(dim), nn.Linear(dim, ff_size), nn.Linear(ff_size, dim)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        return self.linear2(F.gelu(self.linear1(self.norm(x, condition))))


class Block(nn.Module):
    def __init__(self, config: In2INConfig):
        super().__init__()
        dim, heads = config.latent_dim, config.num_heads
        self.sa_block, self.ca_block = Attend(dim, heads, False), Attend(dim, heads, True)
        self.ffn = FeedForward(dim, config.ff_size)

    def forward(self, x: Tensor, partner: Tensor, own: Tensor, shared: Tensor) -> Tensor:
        x = x + self.sa_block(x, own)
        x = x + self.ca_block(x, shared, partner)
        return x + self.ffn(x, own)


class Reference(nn.Module):
    """The published layers in their plain form, with the weights of ours."""

    def __init__(self, config: In2INConfig, ours: PeopleDenoiser):
        super().__init__()
        dim = config.latent_dim
        self.embed_timestep = nn.Module()
        self.embed_timestep.time_embed = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.motion_embed, self.text_embed = nn.Linear(config.features.width, dim), nn.Linear(config.text_dim, dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.out = nn.Module()
        self.out.linear = nn.Linear(dim, config.features.width)
        self.register_buffer("pe", sinusoidal_table(config.max_positions, dim), persistent=False)
        prefix = "decoder.net_interaction."
        self.load_state_dict({in2in_name(f"denoiser.{name}", "interaction").removeprefix(prefix): value
                              for name, value in ours.state_dict().items()})  # fmt: skip

    def forward(self, x: Tensor, t: Tensor, texts: Tensor) -> Tensor:
        time = self.embed_timestep.time_embed(self.pe[t])
        shared, first, second = (time + self.text_embed(text) for text in texts.unbind(1))
        a, b = (self.motion_embed(person) + self.pe[: x.shape[1]] for person in x.chunk(2, dim=-1))
        for block in self.blocks:
            a, b = block(a, b, first, shared), block(b, a, second, shared)
        return torch.cat([self.out.linear(a), self.out.linear(b)], dim=-1)

    def guided(self, x: Tensor, t: Tensor, texts: Tensor) -> Tensor:
        """The four passes of guidance in turn."""
        nothing, *answers = (self(x, t, texts * texts.new_tensor(shown)[:, None]) for shown in SHOWN)
        scales = (GUIDANCE.together, GUIDANCE.interaction, GUIDANCE.individual)
        return nothing + sum(scale * (answer - nothing) for scale, answer in zip(scales, answers, strict=True))


@dataclass(frozen=True, kw_only=True)
class TwoPeopleOptions:
    """What is timed."""

    frames: Annotated[int, FRAMES] = 300
    """Frames of the motion."""
    num_layers: Annotated[int, LAYERS] = 8
    """Layers of the denoiser; 8 as published."""
    rounds: Annotated[int, Range(1, 1000)] = 3
    """Runs of each, of which the one that cost least counts."""
    model_path: Path | None = None
    """Checkpoint whose motions in few steps are compared with those in many."""
    many: Annotated[int, SAMPLING_STEPS] = 50
    """Steps of DDIM."""
    few: Annotated[int, SAMPLING_STEPS] = 10
    """Steps of DPM-Solver++."""
    seeds: Annotated[int, Range(1, 1000)] = 8
    """Motions that are compared."""


@torch.inference_mode()
def run(options: TwoPeopleOptions) -> None:
    """Prints a line for each kind of work."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    config = In2INConfig(num_layers=options.num_layers, text_dim=768, text_layers=1, text_ff_size=1)
    model = In2IN(config)
    network = model.networks["denoiser"]
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    model.eval()
    reference = Reference(config, network).eval()
    x, t, texts = torch.randn(1, options.frames, model.num_channels), torch.tensor([500]), torch.randn(1, 3, 768)
    step = model.guided(texts, None, GUIDANCE)
    for name, ours, theirs in (("forward", lambda: network(x, t, texts), lambda: reference(x, t, texts)),
                               ("4 passes", lambda: step(x, t), lambda: reference.guided(x, t, texts))):  # fmt: skip
        a, b = least(ours, theirs, rounds=options.rounds, warm=True)
        gap = float((a.result - b.result).abs().max() / (1 + b.result.abs().max()))
        print(f"{name:9} of {options.frames} frames: ours {a.cpu:.2f} s, torch's layers {b.cpu:.2f} s, apart by {gap:.1e}")
    if options.model_path is not None:
        compare_steps(options, options.model_path)


def compare_steps(options: TwoPeopleOptions, path: Path) -> None:
    """Few steps of a checkpoint beside many, from the same noise: seconds, and the mean distance of joints."""
    from sample.generation import load, motions_for

    model = load(path, "cpu")
    frames = min(options.frames, model.config.max_frames)
    requests = [Request("two people dance", frames, seed) for seed in range(options.seeds)]
    ways = (Decoding(sampler="ddim", sampling_steps=options.many), Decoding(sampler="dpmpp", sampling_steps=options.few))
    many, few = (cost(lambda way=way: motions_for(model, requests, way, progress=False)) for way in ways)
    gap = np.mean([np.linalg.norm(a.joints - b.joints, axis=-1).mean() for a, b in zip(many.result, few.result, strict=True)])
    print(f"{options.seeds} motions of {frames} frames: {options.many} steps {many.cpu:.1f} s, {options.few} steps "
          f"{few.cpu:.1f} s, joints {100 * gap:.1f} cm apart")  # fmt: skip


main = command(TwoPeopleOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
