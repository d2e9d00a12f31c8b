"""python -m benchmarks.pgr2m: CPU seconds of text to motion over pose codes, and of a tokenizer's training step, at PGR2M's size.

The reference is what published code computes, on torch's own layers: one motion at a time, all of it read again for each new
token. Both have the same weights, conditions and noise, and have to come to the same tokens. A line says how many stay the same
in other numbers than float32.
"""

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.timing import Cost, least
from benchmarks.torch_layers import with_torch_convolutions, with_torch_layers
from data_loaders.corpus import Batch
from data_loaders.pose_codes import indices_from_codes
from diffusion.pose_decoding import decode_poses, hardened
from diffusion.token_decoding import decode_residual
from model.capabilities import OWN, Precision, Request
from model.checkpoints import load_part
from model.pgr2m import NUM_CODES, PGTokenizer
from model.pgr2m_config import TOKEN_FRAMES, PGTokenizerConfig
from model.pgr2m_networks import MOST_TOKENS
from model.pgr2m_transformer_config import PoseRefinerConfig, PoseTransformerConfig
from model.pgr2m_transformers import PoseTextRefiner, PoseTextTransformer, add_residuals, group_sizes, poses_of
from model.precision import in_numbers
from model.token_transformers import IGNORED, RESIDUAL, cross_entropy, noise_of
from protos.flags import BATCH_SIZE, Range
from protos.options import command, run_command
from train.recipe import draws_of

TEXTS = ["a person walks forward and waves", "someone bows", "a man jumps twice and turns to the left", "a person runs"]
TRAINED = 4  # motions of a training step of the refine transformer
SINGLE_ROUNDS = 4  # times as many where single motions are timed: they are short, and a machine is not always alike fast
WINDOWS, WINDOW = 16, 64  # of one of the tokenizer, and its frames


@dataclass(frozen=True, kw_only=True)
class PGR2MOptions:
    """What is timed."""

    parts: tuple[Literal["base", "refine", "tokenizer"], ...] = ("base", "refine", "tokenizer")
    """The base transformer's making of tokens; the refine transformer's adding to them, and its training step; the tokenizer's
    training step."""
    batch_sizes: tuple[Annotated[int, BATCH_SIZE], ...] = (1, 8)
    """Motions that ours makes, or adds to, at once."""
    compared: Annotated[int, BATCH_SIZE] = 8
    """Motions that the reference makes, or adds to, one after the other."""
    tokens: Annotated[int, Range(1, MOST_TOKENS - 1)] = MOST_TOKENS - 1
    """Tokens of a motion."""
    precisions: tuple[Precision, ...] = ("bf16", "int8")
    """Other numbers in which the base transformer makes the motions of the first batch size."""
    model_path: Path | None = None
    """Checkpoint of train.train_base_trans or train.train_refine_trans whose base is timed (default: one of published size,
    untrained)."""
    rounds: Annotated[int, Range(1, 1000)] = 3
    """Runs of each, of which the one that cost least counts."""


def run(options: PGR2MOptions) -> None:
    """Prints a line for each kind of work."""
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.manual_seed(0)
    tokenizer = PGTokenizer(PGTokenizerConfig()).eval()
    if tokenizer.config.num_quantizers:
        tokenizer.network.codebooks.started.fill_(True)
    if "base" in options.parts:
        if options.model_path is None:
            base = PoseTextTransformer(PoseTransformerConfig(), None, {"tokenizer": tokenizer}).eval()
        else:
            base = load_part(options.model_path, "base", "pg_base")
        compare_base(base, options)
    if "refine" in options.parts:
        # Of the base no network is needed here but its tokenizer: a small one stands for it
        base = PoseTextTransformer(PoseTransformerConfig(num_layers=1), None, {"tokenizer": tokenizer})
        refiner = PoseTextRefiner(PoseRefinerConfig(dropout=0.0), None, {"base": base}).eval()
        compare_refining(refiner, options)
        compare_refiner_training(refiner, options.rounds)
    if "tokenizer" in options.parts:
        compare_tokenizer_training(tokenizer, options.rounds)


# ------------------------------------------------------------------------------------------------------------------------- base


@torch.no_grad()
def compare_base(model: PoseTextTransformer, options: PGR2MOptions) -> None:
    """Tokens one after the other."""
    largest = max(*options.batch_sizes, options.compared)
    requests = [Request(TEXTS[i % len(TEXTS)], TOKEN_FRAMES * options.tokens, seed=i) for i in range(largest)]
    if options.model_path is None:
        condition = torch.randn(largest, 1 + model.config.num_keywords, model.config.condition_dim)
    else:
        condition = model.conditions([request.text for request in requests])
    lengths = torch.full((largest,), options.tokens)
    reference = with_torch_layers(model.transformer, model.config)

    def ours(by: PoseTextTransformer, size: int) -> list[Tensor]:
        return by.decode_tokens(condition[:size], OWN, requests[:size], lengths[:size], lengths[:size])

    def published() -> list[Tensor]:
        return [uncached(model, reference, condition[[i]], requests[i], lengths[[i]]) for i in range(options.compared)]

    works = [lambda size=size: ours(model, size) for size in options.batch_sizes]
    theirs, *found = least(published, *works, rounds=options.rounds)
    each = theirs.cpu / options.compared
    print(f"base, {options.tokens} tokens: published code {each:.2f} s a motion, one at a time")
    for size, cost in zip(options.batch_sizes, found, strict=True):
        print(f"base, {size} at once: {cost.cpu:.2f} s, {cost.cpu / size:.3f} s a motion ({each / (cost.cpu / size):.1f} x), "
              f"{equal(cost.result, theirs.result)}")  # fmt: skip
    size, exact = options.batch_sizes[0], found[0]
    told = poses_of(torch.stack(exact.result)[:, :-1])  # (B, N - 1, 394)
    likeliest = likeliest_codes(model.transformer, told, condition[:size])
    for precision in options.precisions:
        other = copy.copy(model)
        other.networks, other.parts = copy.deepcopy(model.networks), {}
        in_numbers(other, precision)
        (made,) = least(lambda other=other: ours(other, size), rounds=options.rounds)
        same = likeliest_codes(other.transformer, told, condition[:size]) == likeliest
        print(f"base in {precision}, {size} at once: {made.cpu:.2f} s ({exact.cpu / made.cpu:.2f} x float32), "
              f"{equal(made.result, exact.result)}; likeliest codes after the same tokens: {100 * same.float().mean():.2f} %")


def uncached(model: PoseTextTransformer, reference: nn.Module, condition: Tensor, request: Request, length: Tensor) -> Tensor:
    """Pose codes (N, 70) of one motion, all of which is read again for every token."""
    said = torch.zeros(1, 0, 394)

    def advance(bits: Tensor, rows: Tensor) -> Tensor:
        nonlocal said
        said = torch.cat([said, bits[:, None]], dim=1)
        return reference(said, condition)[:, -1]

    noise = noise_of([request], model.device)
    (bits,) = decode_poses(reference(said, condition)[:, -1], advance, group_sizes(), length, length, model.sampling(OWN), noise)
    return indices_from_codes(bits[:, :NUM_CODES])


def likeliest_codes(transformer: nn.Module, told: Tensor, condition: Tensor) -> Tensor:
    """Pose codes (B, N, 70) that follow each of the bits (B, N - 1, 394) that it was told, and the condition."""
    return indices_from_codes(hardened(transformer(told, condition), group_sizes())[..., :NUM_CODES])


def equal(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> str:
    """How many tokens (N, 70) of the motions that both have are the same, and how many of their codes."""
    pairs = [one == other for one, other in zip(ours, theirs)]  # of two batches one may be smaller
    same = torch.stack(pairs)
    return (f"same tokens in {len(pairs)} motions: {100 * same.all(-1).float().mean():.1f} % (same codes: "
            f"{100 * same.float().mean():.1f} %)")  # fmt: skip


# ----------------------------------------------------------------------------------------------------------- refine and tokenizer


@torch.no_grad()
def compare_refining(model: PoseTextRefiner, options: PGR2MOptions) -> None:
    """All ids of the codebooks of motions."""
    largest = max(*options.batch_sizes, options.compared)
    requests = [Request(TEXTS[i % len(TEXTS)], TOKEN_FRAMES * options.tokens, seed=i) for i in range(largest)]
    poses, reference = random_poses(largest, options.tokens), with_torch_layers(model.transformer, model.config)
    condition = torch.randn(largest, 1 + model.config.num_keywords, model.config.condition_dim)

    def ours(size: int) -> Tensor:
        noise = noise_of(requests[:size], model.device, RESIDUAL)
        return add_residuals(model.transformer, poses[:size], condition[:size], model.sampling(OWN), noise)

    def published(number: int) -> Tensor:
        return anew(model, reference, poses[[number]], condition[[number]], requests[number])

    known = torch.cat([published(number) for number in range(options.compared)])
    for size in options.batch_sizes:
        rounds = options.rounds * (SINGLE_ROUNDS if size == 1 else 1)
        theirs, cost = least(lambda: published(0), lambda size=size: ours(size), rounds=rounds)
        each = cost.cpu / size
        print(f"refine, {options.tokens} tokens, {size} at once: {each:.3f} s a motion, torch's layers, one at a time, "
              f"{theirs.cpu:.3f} s ({theirs.cpu / each:.2f} x), {equal(cost.result, known)}")  # fmt: skip


def anew(model: PoseTextRefiner, reference: nn.Module, poses: Tensor, condition: Tensor, request: Request) -> Tensor:
    """Ids (1, N, Q) of one motion, all of which is read again for every codebook."""
    bits, classes = poses_of(poses), model.config.num_codes

    def logits(layer: int, told: Tensor) -> Tensor:
        found = reference(bits, told[..., 1:], torch.tensor([layer - 1]), condition)
        return F.pad(found[..., :classes], (0, 1), value=-torch.inf)

    everywhere, noise = torch.ones(poses.shape[:2], dtype=torch.bool), noise_of([request], model.device, RESIDUAL)
    count = model.config.num_quantizers + 1
    return decode_residual(logits, poses[..., 0], everywhere, count, model.sampling(OWN), noise)[..., 1:]


def compare_refiner_training(model: PoseTextRefiner, rounds: int) -> None:
    """Forward and backward pass on a few motions of full length."""
    network, size = model.transformer.train(), MOST_TOKENS - 1
    reference = with_torch_layers(network, model.config).train()
    poses, mask = poses_of(random_poses(TRAINED, size)), torch.ones(TRAINED, size, dtype=torch.bool)
    ids = torch.randint(model.config.num_codes, (TRAINED, size, model.config.num_quantizers))
    stage = torch.arange(TRAINED) % model.config.num_quantizers
    condition = torch.randn(TRAINED, 1 + model.config.num_keywords, model.config.condition_dim)
    wanted = ids.take_along_dim(stage[:, None, None], dim=2)[..., 0].masked_fill(~mask, IGNORED)

    def step(by: nn.Module) -> Tensor:
        by.zero_grad(set_to_none=True)
        loss = cross_entropy(by(poses, ids, stage, condition, mask), wanted).terms["loss"]
        loss.backward()
        return loss.detach()

    ours, theirs = least(lambda: step(network), lambda: step(reference), rounds=rounds, warm=True)
    print(f"refine, a training step of {TRAINED} motions: {against(ours, theirs)}, losses apart by "
          f"{float((ours.result - theirs.result).abs()):.1e}")  # fmt: skip


def compare_tokenizer_training(tokenizer: PGTokenizer, rounds: int) -> None:
    """Loss and gradients of windows of motion, pose codes and codebooks included."""
    tokenizer.networks.requires_grad_(True)
    other = copy.copy(tokenizer)
    other.networks = nn.ModuleDict({"tokenizer": with_torch_convolutions(tokenizer.network, tokenizer.config)})
    motion = torch.randn(WINDOWS, WINDOW, tokenizer.features.width)
    batch = Batch(motion, torch.full((WINDOWS,), WINDOW), torch.ones(WINDOWS, WINDOW, dtype=torch.bool))

    def step(model: PGTokenizer) -> Tensor:
        model.train().networks.zero_grad(set_to_none=True)
        terms = model.loss(batch, draws_of(0, range(WINDOWS), "train", 0)).terms
        loss = torch.stack([term.mean() for term in terms.values()]).sum()
        loss.backward()
        return loss.detach()

    ours, theirs = least(lambda: step(tokenizer), lambda: step(other), rounds=rounds, warm=True)
    print(f"tokenizer, a training step of {WINDOWS} windows: {against(ours, theirs)}, losses apart by "
          f"{float((ours.result - theirs.result).abs()):.1e}")  # fmt: skip


def random_poses(motions: int, tokens: int) -> Tensor:
    """Ids (B, N, 70), one code of each group."""
    sizes = torch.tensor(group_sizes())
    firsts = sizes.cumsum(0) - sizes
    return firsts + (torch.rand(motions, tokens, len(sizes)) * sizes).long()


def against(ours: Cost, theirs: Cost) -> str:
    """Both times."""
    return f"ours {ours.cpu:.2f} s, torch's layers {theirs.cpu:.2f} s ({theirs.cpu / ours.cpu:.2f} x)"


main = command(PGR2MOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
