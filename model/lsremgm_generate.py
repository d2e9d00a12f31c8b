"""Sampling with LS-ReMGM: text (or actions, an edit, a prefix, a target) in, motion out, as the weights need it.

Models without `mask_frames` are sampled at full length and cut, masked ones at the requested length, prefix models
(DiP) piece by piece. Every sample draws its noise from its own seed, so it does not depend on the batch or on padding.
"""

import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from data_loaders.corpus import Motion
from data_loaders.edit_masks import EditError, TargetLocation
from diffusion.gaussian import Denoise
from diffusion.guidance import dropped_rows, guided, stack_conditions
from diffusion.inpainting import keep_given
from diffusion.samplers import SampledStep, SamplerName, sample
from model.lsremgm_system import LSReMGM
from protos.randomness import derive_seed, seeded_randn

log = logging.getLogger(__name__)

Texts = Sequence[str] | Sequence[Sequence[str]]


class LengthError(ValueError):
    """A length that the model cannot make."""


@dataclass(frozen=True)
class Sampling:
    """How to sample; None takes what the model's configuration says. `num_steps`: 20, "ddim20", ..."""

    guidance_scale: float | None = None
    sampler: SamplerName | None = None
    num_steps: int | str | None = None
    smoothing: float | None = None
    eta: float = 0.0
    order: int | None = None
    batch_size: int = 64
    on_step: Callable[[SampledStep], None] | None = None


@dataclass(frozen=True)
class Extras:
    """What a sample may be given beside its text; every tensor has one row per sample.

    `motion` (B, T, F) in feature units with `keep` (B, T, F or 1) True where it stays: an edit. `prefix`
    (B, context, F) in feature units: how a DiP model's motion begins, part of the result with `include_prefix`.
    `target`: where it ends. `actions` (B,): what an action model makes.
    """

    motion: Tensor | None = None
    keep: Tensor | None = None
    prefix: Tensor | None = None
    target: TargetLocation | None = None
    actions: Tensor | None = None
    include_prefix: bool = False

    def rows(self, rows: slice) -> "Extras":
        target = self.target and TargetLocation(self.target.values[rows], self.target.valid[rows])
        motion, keep, prefix, actions = (
            None if x is None else x[rows] for x in (self.motion, self.keep, self.prefix, self.actions))
        return Extras(motion, keep, prefix, target, actions, self.include_prefix)


def generate(nets: LSReMGM, texts: Texts, lengths: Sequence[int], seeds: Sequence[int], *,
             guidance_scale: float | None = None, sampler: SamplerName | None = None,
             num_steps: int | str | None = None, extras: Extras = Extras(), **settings) -> list[Motion]:
    """A Motion of lengths[i] frames for texts[i], its joints (1, T, J, 3) in metres; `settings` as in Sampling.

    A prefix model also takes a list of prompts per sample, one for each piece of `pred_len` frames.
    """
    sampling = Sampling(guidance_scale, sampler, num_steps, **settings)
    features = generate_features(nets, texts, lengths, seeds, sampling, extras)
    captions = [(text,) if isinstance(text, str) else tuple(text) for text in texts]
    return [nets.motion(rows, *caption) for rows, caption in zip(features, captions, strict=True)]


@torch.no_grad()
def generate_features(nets: LSReMGM, texts: Texts, lengths: Sequence[int], seeds: Sequence[int],
                      sampling: Sampling = Sampling(), extras: Extras = Extras()) -> list[Tensor]:
    """Features [(lengths[i], D)] in their units, of the columns that the model makes. Raises LengthError, EditError."""
    if not len(texts) == len(lengths) == len(seeds):
        raise ValueError(f"{len(texts)} texts, {len(lengths)} lengths and {len(seeds)} seeds: expected as many of each")
    lengths = [int(length) for length in lengths]
    check_lengths(nets, lengths)
    nets.eval()
    made: list[Tensor] = []
    for start in range(0, len(texts), sampling.batch_size):
        rows = slice(start, start + sampling.batch_size)
        whole = _generate_pieces if nets.config.context_len else _generate_whole
        made += whole(nets, list(texts[rows]), lengths[rows], list(seeds[rows]), sampling, extras.rows(rows))
    sigma = nets.config.smoothing if sampling.smoothing is None else sampling.smoothing
    return [smooth(features, sigma) for features in made] if sigma else made


def smooth(features: Tensor, sigma: float) -> Tensor:
    """Features (T, D) under a Gaussian along time, `sigma` in frames, the first and last frame repeated beyond the ends."""
    radius = max(1, math.ceil(3 * sigma))
    offsets = torch.arange(-radius, radius + 1, device=features.device, dtype=features.dtype)
    kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
    padded = torch.cat([features[:1].expand(radius, -1), features, features[-1:].expand(radius, -1)])  # (T + 2r, D)
    return padded.unfold(0, 2 * radius + 1, 1) @ (kernel / kernel.sum())  # (T, D)


def check_lengths(nets: LSReMGM, lengths: Sequence[int]) -> None:
    """LengthError unless every length can be made: 1 to max_frames, without an end for prefix models."""
    longest = None if nets.config.context_len else nets.config.max_frames
    for length in lengths:
        if length < 1 or (longest is not None and length > longest):
            fps = nets.config.fps
            limit = "" if longest is None else f" to {longest} ({longest / fps:.1f} s at {fps:g} frames per second)"
            raise LengthError(f"this model makes motions of 1{limit} frames, not {length}")


def sample_noise(seeds: Sequence[int], *context: int) -> Callable[[Tensor], Tensor]:
    """x -> noise like x, made on its device, a new draw at each call. Row b depends on seeds[b] and the number of the call
    only.

    A seed per draw, not one per sample: so a shorter row of a padded batch gets the same numbers.
    """
    calls = iter(range(1 << 30))

    def draw(x: Tensor) -> Tensor:
        call = next(calls)
        return seeded_randn([derive_seed(int(seed), *context, call) for seed in seeds], x.shape, x.device).to(x.dtype)

    return draw


def denoiser(nets: LSReMGM, texts: Sequence[str], mask: Tensor, guidance_scale: float, extras: Extras,
             prefix: Tensor | None = None) -> Denoise:
    """denoise(x, t) under the texts with classifier-free guidance, both passes in one batch.

    Scale 1 asks the conditional network alone, scale 0 the unconditional one. The target stays in both.
    """
    config, device = nets.config, nets.device
    copies = 2 if guidance_scale not in (0, 1) and config.condition != "none" else 1
    text = nets.encode_text(list(texts))
    if text is not None and copies == 2:
        text = text[torch.arange(2 * len(texts)) % len(texts)]
    drop = dropped_rows(len(texts), copies, device) if copies == 2 else None
    if guidance_scale == 0:
        drop = torch.ones(len(texts), dtype=torch.bool, device=device)
    target = extras.target and TargetLocation(
        *(stack_conditions(x.to(device), copies) for x in (extras.target.values, extras.target.valid)))
    action, prefix, mask = (
        None if x is None else stack_conditions(x.to(device), copies) for x in (extras.actions, prefix, mask))
    if config.condition == "action" and action is None:
        raise ValueError(f"this model makes actions: pass numbers from 0 to {config.num_actions - 1}")

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        y = nets.denoiser(x, t, text, mask, action=action, prefix=prefix, target=target, drop=drop)
        return y.to(x.dtype)

    return guided(denoise, guidance_scale) if copies == 2 else denoise


def scale_of(nets: LSReMGM, sampling: Sampling) -> float:
    """The guidance scale to use; 1 for a model that never learned to do without its condition."""
    scale = nets.config.guidance_scale if sampling.guidance_scale is None else float(sampling.guidance_scale)
    if not math.isfinite(scale):
        raise ValueError(f"guidance scale {scale}: expected a finite number")
    if nets.config.condition == "none" and sampling.guidance_scale is not None and scale != 1:
        log.warning("guidance scale %g is ignored: this model has no condition to follow", scale)
    if nets.config.cond_mask_prob == 0 and scale != 1:
        if sampling.guidance_scale is not None:
            log.warning("guidance scale %g is ignored: this model was trained with its condition always present", scale)
        return 1.0
    return scale


def _run(nets: LSReMGM, denoise: Denoise, shape: tuple[int, ...], noise: Callable, sampling: Sampling,
         edit_x0: Callable | None = None) -> Tensor:
    start = noise(torch.empty(shape, device=nets.device))
    sampler = sampling.sampler or nets.config.sampler
    if sampling.eta and sampler != "ddim":
        raise ValueError(f"eta {sampling.eta:g}: only the sampler ddim takes it, not {sampler}")
    if sampling.order is not None and sampler not in ("plms", "dpmpp"):
        raise ValueError(f"order {sampling.order}: only the samplers plms and dpmpp take it, not {sampler}")
    num_steps = nets.config.num_steps if sampling.num_steps is None else sampling.num_steps
    return sample(denoise, start, nets.diffusion, sampler=sampler, num_steps=num_steps, noise=noise,
                  eta=sampling.eta, order=sampling.order, edit_x0=edit_x0, on_step=sampling.on_step)


def _generate_whole(nets: LSReMGM, texts: list[str], lengths: list[int], seeds: list[int], sampling: Sampling,
                    extras: Extras) -> list[Tensor]:
    """One batch at once: at max_frames without frame masks, else at its longest length."""
    config, step = nets.config, nets.frames_per_token
    frames = max(lengths) if config.mask_frames else config.max_frames
    tokens = -(-frames // step)
    length = torch.tensor(lengths, device=nets.device)[:, None]
    mask = torch.arange(tokens * step, device=nets.device) < -(-length // step) * step  # (B, T), whole tokens
    denoise = denoiser(nets, texts, mask[:, ::step], scale_of(nets, sampling), extras)
    edit_x0 = None if extras.motion is None else _edit(nets, extras, tokens)
    x = _run(nets, denoise, (len(texts), tokens, config.num_features), sample_noise(seeds), sampling, edit_x0)
    features = nets.from_diffused(x, mask)  # (B, T, D)
    return [row[:n] for row, n in zip(features, lengths, strict=True)]


def _edit(nets: LSReMGM, extras: Extras, frames: int) -> Callable[[Tensor], Tensor]:
    """Replacement of the kept part of x0 (B, T, D), padded or cut to `frames`."""
    if nets.autoencoder is not None:
        raise EditError("this model works in latents of an autoencoder: frames and body parts cannot be kept; "
                        "use a model without an autoencoder to edit")
    if extras.keep is None:
        raise EditError("an edit needs `keep` beside the motion: True where the motion stays")
    motion = nets.normalise(extras.motion.to(nets.device))
    keep = extras.keep.to(nets.device).expand(-1, -1, motion.shape[-1])
    missing = max(0, frames - motion.shape[1])
    motion, keep = (torch.nn.functional.pad(x, (0, 0, 0, missing))[:, :frames] for x in (motion, keep))
    return keep_given(motion, keep)


def autoregress(next_frames: Callable[[Tensor, int], Tensor], prefix: Tensor, required: int, pred_len: int,
                include_prefix: bool = False) -> Tensor:
    """Frames (B, required, D) out of pieces (B, pred_len, D) that next_frames(prefix (B, context, D), call) makes.

    Each piece follows the last `context` frames of the one before. With `include_prefix` the given prefix is counted
    as the first of the required frames. Tevet et al. 2025 (DiP), §3.
    """
    pieces, given = [], prefix
    for call in range(math.ceil(required / pred_len)):
        piece = next_frames(given, call)
        pieces.append(piece)
        given = torch.cat([given, piece], dim=1)[:, -prefix.shape[1]:]  # a piece may be shorter than the context
    return torch.cat([prefix, *pieces] if include_prefix else pieces, dim=1)[:, :required]


def _generate_pieces(nets: LSReMGM, texts: list, lengths: list[int], seeds: list[int], sampling: Sampling,
                     extras: Extras) -> list[Tensor]:
    """One batch of a prefix model (DiP)."""
    config, batch = nets.config, len(texts)
    prompts = [[text] if isinstance(text, str) else list(text) for text in texts]
    if not all(prompts):
        raise ValueError("a sample with an empty list of prompts")
    if extras.prefix is None:
        log.warning("no prefix given: the motion begins from the mean pose, not from data")
        prefix = torch.zeros(batch, config.context_len, config.num_features, device=nets.device)
    else:
        prefix = nets.normalise(extras.prefix.to(nets.device))
        if prefix.shape[1:] != (config.context_len, config.num_features):
            raise EditError(f"a prefix of shape {tuple(prefix.shape[1:])}: this model continues "
                            f"{config.context_len} frames of {config.num_features} features")
    mask = torch.ones(batch, config.pred_len, dtype=torch.bool, device=nets.device)

    def next_frames(given: Tensor, call: int) -> Tensor:
        now = [sequence[min(call, len(sequence) - 1)] for sequence in prompts]
        denoise = denoiser(nets, now, mask, scale_of(nets, sampling), extras, given)
        noise = sample_noise(seeds, call)
        return _run(nets, denoise, (batch, config.pred_len, config.num_features), noise, sampling)

    made = autoregress(next_frames, prefix, max(lengths), config.pred_len, extras.include_prefix)
    features = nets.denormalise(made)
    return [row[:n] for row, n in zip(features, lengths, strict=True)]
