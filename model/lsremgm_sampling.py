"""How LS-ReMGM and its relatives are sampled: what is asked as a denoiser, the model's own steps and scale, and motions as a
whole, piece by piece (DiP: Tevet et al. 2025), or in windows that pass over into each other.

Models without `mask_frames` are sampled at full length and cut, masked ones at the requested length.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from data_loaders.edit_masks import EditError, TargetLocation
from data_loaders.features import Features
from diffusion.gaussian import Denoise, EditX0
from diffusion.guidance import dropped_rows, guided, keep_given, stack_conditions
from diffusion.samplers import Noise, sample, sample_noise
from diffusion.windows import Window, decoded_pieces, in_tokens, in_turns, laid_out, windowed, windows_over
from model.capabilities import Decoding, Guidance, Passage, Request
from model.model import Model, ReadsTexts
from protos.randomness import derive_seed

log = logging.getLogger(__name__)
BLOCK = 16  # windows of a long motion that are denoised together
OVERLAP = 1.0  # seconds in which one window passes over into the next


class LengthError(ValueError):
    """A length that the model cannot make."""


def check_lengths(lengths: Sequence[int], features: Features, longest: int | None) -> None:
    """LengthError unless every length can be made: 1 to `longest` frames, None being without an end."""
    for length in lengths:
        if length < 1 or (longest is not None and length > longest):
            fps = features.fps
            limit = "" if longest is None else f" to {longest} ({longest / fps:.1f} s at {fps:g} frames per second)"
            raise LengthError(f"this model makes motions of 1{limit} frames, not {length}")


def denoiser(model: ReadsTexts, requests: Sequence[Request], texts: Sequence[str], mask: Tensor, guidance_scale: float,
             prefix: Tensor | None = None) -> Denoise:
    """denoise(x, t) under the texts, and what else was asked, with classifier-free guidance, both passes in one batch.

    Scale 1 asks the conditional network alone, scale 0 the unconditional one. The target stays in both.
    """
    config, device = model.config, model.device
    copies = 2 if guidance_scale not in (0, 1) and config.condition != "none" else 1
    text = model.encode_text(list(texts))
    if text is not None and copies == 2:
        text = text[torch.arange(2 * len(texts)) % len(texts)]
    drop = dropped_rows(len(texts), copies, device) if copies == 2 else None
    if guidance_scale == 0:
        drop = torch.ones(len(texts), dtype=torch.bool, device=device)
    target, no_target = _targets(requests)
    if target is not None:
        target = TargetLocation(*(stack_conditions(x.to(device), copies) for x in (target.values, target.valid)))
    action = actions_of(requests, config.num_actions) if config.condition == "action" else None
    action, prefix, mask, no_target = (
        None if x is None else stack_conditions(x.to(device), copies) for x in (action, prefix, mask, no_target))

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        y = model.denoiser(x, t, text, mask, action=action, prefix=prefix, target=target, drop=drop, drop_target=no_target)
        return y.to(x.dtype)

    return guided(denoise, guidance_scale) if copies == 2 else denoise


def _targets(requests: Sequence[Request]) -> tuple[TargetLocation | None, Tensor | None]:
    """The targets (B, 8, 3) and (B, 8) of all, and (B,) True where none is asked for; None where nobody asks for one."""
    first = next((request.target for request in requests if request.target is not None), None)
    if first is None:
        return None, None
    none = TargetLocation(torch.zeros_like(first.values), torch.zeros_like(first.valid))
    rows = [request.target or none for request in requests]
    return (TargetLocation(torch.stack([row.values for row in rows]), torch.stack([row.valid for row in rows])),
            torch.tensor([request.target is None for request in requests]))  # fmt: skip


def actions_of(requests: Sequence[Request], known: int) -> Tensor:
    if any(request.action is None or not 0 <= request.action < known for request in requests):
        raise ValueError(f"this model makes actions: pass numbers from 0 to {known - 1}")
    return torch.tensor([request.action for request in requests])


def scale_of(model: Model, decoding: Decoding) -> float:
    """The guidance scale to use; 1 for a model that never learned to do without its condition."""
    asked, own = decoding.guidance_scale, model.config.own_guidance
    if isinstance(asked, Guidance):
        raise ValueError("this model reads one text: give one guidance scale")
    scale = model.config.guidance_scale if asked is None else float(asked)
    if not math.isfinite(scale):
        raise ValueError(f"guidance scale {scale}: expected a finite number")
    if own is None and asked is not None and scale != 1:
        none = model.config.condition == "none"
        why = "has no condition to follow" if none else "was trained with its condition always present"
        log.warning("guidance scale %g is ignored: this model %s", scale, why)
    return 1.0 if own is None else scale


def run(model: Model, denoise: Denoise, shape: tuple[int, ...], noise: Noise, decoding: Decoding,
        edit_x0: EditX0 | None = None) -> Tensor:
    """A sample of `shape` (B, T, D) of the model's diffusion by the sampler and in the steps that are asked for, else its own."""
    start = noise(torch.empty(shape, device=model.device))
    sampler = decoding.sampler or model.config.sampler
    if decoding.eta and sampler != "ddim":
        raise ValueError(f"eta {decoding.eta:g}: only the sampler ddim takes it, not {sampler}")
    if decoding.temperature is not None or decoding.top_k is not None:
        raise ValueError("temperature and top_k are of models that decode tokens: this one is a diffusion")
    if decoding.order is not None and sampler not in ("plms", "dpmpp"):
        raise ValueError(f"order {decoding.order}: only the samplers plms and dpmpp take it, not {sampler}")
    steps = steps_of(model, model.config.sampling_steps if decoding.sampling_steps is None else decoding.sampling_steps)
    return sample(denoise, start, model.diffusion, sampler=sampler, sampling_steps=steps, noise=noise,
                  eta=decoding.eta or 0.0, order=decoding.order, edit_x0=edit_x0, on_step=decoding.on_step)


def steps_of(model: Model, asked: int | str | None) -> int | str | None:
    """Which steps of the model's diffusion, as `space_timesteps` reads it: a number of them lies as its configuration says."""
    return spaced(asked, model.config.spacing, model.diffusion.num_timesteps) if isinstance(asked, int) else asked


def spaced(count: int, spacing: str, of: int) -> int | str:
    """Which `count` of the steps of a diffusion, as `space_timesteps` reads it; even ones where no whole stride gives so many."""
    if spacing == "trailing":
        return f"trailing{count}"
    return f"ddim{count}" if spacing == "strided" and math.ceil(of / math.ceil(of / count)) == count else count


def whole_motions(model: ReadsTexts, requests: Sequence[Request], decoding: Decoding) -> list[Tensor]:
    """At max_frames without frame masks, else at the longest length."""
    if model.parts and any(request.motion is not None for request in requests):
        raise EditError("this model works in latents of an autoencoder: frames and body parts cannot be kept; "
                        "use a model without an autoencoder to edit")
    config, step, lengths = model.config, model.frames_per_token, [request.frames for request in requests]
    frames = max(lengths) if config.mask_frames else config.max_frames
    tokens = -(-frames // step)
    length = torch.tensor(lengths, device=model.device)[:, None]
    mask = torch.arange(tokens * step, device=model.device) < -(-length // step) * step  # (B, T), whole tokens
    texts, noise = [request.text for request in requests], sample_noise([request.seed for request in requests])
    denoise = denoiser(model, requests, texts, mask[:, ::step], scale_of(model, decoding))
    x = run(model, denoise, (len(requests), tokens, model.num_channels), noise, decoding, edit_of(model, requests, tokens))
    features = model.from_diffused(x, mask)  # (B, T, D)
    return [row[:n] for row, n in zip(features, lengths, strict=True)]


def edit_of(model: Model, requests: Sequence[Request], frames: int) -> EditX0 | None:
    """Replacement of the kept part of x0 (B, T, D), padded or cut to `frames`; None where nothing is given."""
    if all(request.motion is None for request in requests):
        return None
    motion = torch.zeros(len(requests), frames, model.num_channels, device=model.device)
    keep = torch.zeros_like(motion, dtype=torch.bool)
    for row, request in enumerate(requests):
        if request.motion is None:
            continue
        if request.keep is None:
            raise EditError("an edit needs `keep` beside the motion: True where the motion stays")
        given = min(len(request.motion), frames)
        motion[row, :given] = model.normalise(request.motion[:given].to(model.device))
        keep[row, :given] = model.kept_columns(request.keep[:given].to(model.device))
    return keep_given(motion, keep)


def motions_in_pieces(model: ReadsTexts, requests: Sequence[Request], decoding: Decoding) -> list[Tensor]:
    """Piece by piece, each from the end of what went before (DiP)."""
    config, batch = model.config, len(requests)
    prompts = [[request.text] if isinstance(request.text, str) else list(request.text) for request in requests]
    if not all(prompts):
        raise ValueError("a sample with an empty list of prompts")
    if any(request.prefix is None for request in requests):
        log.warning("no prefix given: the motion begins from the mean pose, not from data")
    prefix = torch.zeros(batch, config.context_len, model.num_channels, device=model.device)
    for row, request in enumerate(requests):
        if request.prefix is None:
            continue
        if request.prefix.shape != prefix.shape[1:]:
            raise EditError(f"a prefix of shape {tuple(request.prefix.shape)}: this model continues "
                            f"{config.context_len} frames of {model.num_channels} features")
        prefix[row] = model.normalise(request.prefix.to(model.device))
    mask = torch.ones(batch, config.pred_len, dtype=torch.bool, device=model.device)

    def next_frames(given: Tensor, call: int) -> Tensor:
        now = [sequence[min(call, len(sequence) - 1)] for sequence in prompts]
        denoise = denoiser(model, requests, now, mask, scale_of(model, decoding), given)
        noise = sample_noise([request.seed for request in requests], call)
        return run(model, denoise, (batch, config.pred_len, model.num_channels), noise, decoding)

    made = autoregress(next_frames, prefix, max(request.frames for request in requests), config.pred_len)
    features = model.denormalise(torch.cat([prefix, made], dim=1))  # (B, context + T, D)
    starts = [0 if request.include_prefix else config.context_len for request in requests]
    return [row[start:][: request.frames] for row, start, request in zip(features, starts, requests, strict=True)]


def long_in_pieces(model: ReadsTexts, passages: Sequence[Passage], seed: int, decoding: Decoding) -> Iterator[Tensor]:
    """As `motions_in_pieces` goes on, each passage with pieces of its own."""
    config, call = model.config, 0
    log.warning("no prefix given: the motion begins from the mean pose, not from data")
    given = torch.zeros(1, config.context_len, model.num_channels, device=model.device)
    mask = torch.ones(1, config.pred_len, dtype=torch.bool, device=model.device)
    for passage in passages:
        left = passage.frames
        while left > 0:
            request = Request(passage.text, passage.frames, seed)
            denoise = denoiser(model, [request], [passage.text], mask, scale_of(model, decoding), given)
            piece = run(model, denoise, (1, config.pred_len, model.num_channels), sample_noise([seed], call), decoding)[:, :left]
            given = torch.cat([given, piece], dim=1)[:, -config.context_len :]
            left, call = left - piece.shape[1], call + 1
            yield model.denormalise(piece)[0].cpu()


def long_in_windows(model: ReadsTexts, passages: Sequence[Passage], seed: int, decoding: Decoding) -> Iterator[Tensor]:
    """Windows over what the denoiser works on, decoded as far as nothing changes any more."""
    step, frames = model.frames_per_token, [passage.frames for passage in passages]

    def decode(tokens: Tensor) -> Tensor:
        mask = torch.ones(1, len(tokens) * step, dtype=torch.bool, device=tokens.device)
        return model.from_diffused(tokens[None], mask)[0].cpu()

    overlap = max(2, round(OVERLAP * model.features.fps / step))
    windows = windows_over(in_tokens(frames, step), -(-model.config.max_frames // step), overlap)
    blocks = _blocks(model, [passage.text for passage in passages], windows, seed, decoding)
    made = decoded_pieces(blocks, decode, step, model.reach, sum(frames))
    sigma = model.smoothing if decoding.smoothing is None else decoding.smoothing
    yield from decoded_pieces(made, partial(smooth, sigma=sigma), 1, math.ceil(3 * sigma), sum(frames)) if sigma else made


def _blocks(
    model: ReadsTexts, texts: Sequence[str], windows: Sequence[Window], seed: int, decoding: Decoding
) -> Iterator[Tensor]:
    """Tokens (N, C) of windows, as many at a time as a block has, each once. What a block shares with the one before is kept as
    that made it."""
    step, scale, device = model.frames_per_token, scale_of(model, decoding), model.device
    width = None if model.config.mask_frames else -(-model.config.max_frames // step)
    before = torch.zeros(0, model.num_channels, device=device)
    for number, first in enumerate(range(0, len(windows), BLOCK)):
        block = windows[first : first + BLOCK]
        layout = laid_out(block, width)
        turns = []
        for rows in (slice(i, i + decoding.batch_size) for i in range(0, len(block), decoding.batch_size)):
            requests = [Request(texts[window.passage], (window.stop - window.start) * step, seed) for window in block[rows]]
            said = [request.text for request in requests]
            turns.append((rows, denoiser(model, requests, said, layout.mask[rows].to(device), scale)))
        shape, edit = (1, layout.size, model.num_channels), None
        if len(before):
            given, keep = torch.zeros(shape, device=device), torch.zeros(shape, dtype=torch.bool, device=device)
            given[0, : len(before)], keep[0, : len(before)] = before, True
            edit = keep_given(given, keep)
        noise = sample_noise([derive_seed(seed, "block", number) if number else seed])
        made = run(model, windowed(in_turns(turns), layout), shape, noise, decoding, edit)[0, : layout.length]
        yield made[len(before) :]
        if first + BLOCK < len(windows):
            before = made[len(made) - (block[-1].stop - windows[first + BLOCK].start) :]


def autoregress(next_frames: Callable[[Tensor, int], Tensor], prefix: Tensor, required: int, pred_len: int) -> Tensor:
    """Frames (B, required, D) out of pieces (B, pred_len, D) that next_frames(prefix (B, context, D), call) makes.

    Each piece follows the last `context` frames of the one before. Tevet et al. 2025 (DiP), §3.
    """
    pieces, given = [], prefix
    for call in range(math.ceil(required / pred_len)):
        piece = next_frames(given, call)
        pieces.append(piece)
        given = torch.cat([given, piece], dim=1)[:, -prefix.shape[1]:]  # a piece may be shorter than the context
    return torch.cat(pieces, dim=1)[:, :required]


def smooth(features: Tensor, sigma: float) -> Tensor:
    """Features (T, D) under a Gaussian along time, `sigma` in frames, the first and last frame repeated beyond the ends."""
    kernel = smoothing_kernel(sigma).to(features)
    radius = len(kernel) // 2
    padded = torch.cat([features[:1].expand(radius, -1), features, features[-1:].expand(radius, -1)])  # (T + 2r, D)
    return padded.unfold(0, len(kernel), 1) @ kernel  # (T, D)


def smoothing_kernel(sigma: float) -> Tensor:
    """Weights (2 r + 1,) of a Gaussian of `sigma` frames; a single 1 where that is 0."""
    if not sigma:
        return torch.ones(1)
    radius = max(1, math.ceil(3 * sigma))
    kernel = torch.exp(-0.5 * (torch.arange(-radius, radius + 1, dtype=torch.float32) / sigma) ** 2)
    return kernel / kernel.sum()
