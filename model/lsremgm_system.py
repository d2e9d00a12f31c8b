"""LS-ReMGM as one object: the denoiser, and the statistics, text encoder and autoencoder that make it a model, and sampling.

Models without `mask_frames` are sampled at full length and cut, masked ones at the requested length, prefix models
(DiP) piece by piece. Every sample draws its noise from its own seed, so it does not depend on the batch or on padding.
"""

import logging
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from data_loaders.corpus import Motion, Representation, RepresentationMismatch, Statistics
from data_loaders.edit_masks import EditError, TargetLocation
from data_loaders.humanml_features import joints_from_features
from data_loaders.skeleton import Skeleton, load_skeleton
from diffusion.gaussian import Denoise, Diffusion
from diffusion.guidance import dropped_rows, guided, stack_conditions
from diffusion.inpainting import keep_given
from diffusion.samplers import sample
from model.capabilities import NOT_FINITE, OWN, Sampling
from model.lsremgm import LSReMGMConfig, MotionDenoiser
from model.lsremgm_generate import NO_EXTRAS, Extras, LengthError, Texts, autoregress, sample_noise, smooth
from model.motion_autoencoder import MotionAutoencoder, autoencoder_columns
from model.text_encoders import TextEncoder, TextFeatures
from model.text_towers import load_text_encoder

log = logging.getLogger(__name__)


class LSReMGM(nn.Module):
    """`denoiser` is what trains; `autoencoder`, where the model has one, is frozen. Made by `build`.

    `mean` and `std` (D,) are those of the features (of the columns the autoencoder reads, if there is one).
    """

    def __init__(self, config: LSReMGMConfig, statistics: Statistics | None, text_encoder: TextEncoder | None):
        super().__init__()
        self.config = config
        self.denoiser = MotionDenoiser(config)
        self.autoencoder = MotionAutoencoder(config.autoencoder) if config.autoencoder else None
        if self.autoencoder is not None:
            self.autoencoder.requires_grad_(False)
        self.diffusion = Diffusion.create(
            config.noise_schedule, config.diffusion_steps, config.prediction,
            "fixed_small" if config.sigma_small else "fixed_large")
        self._text_encoder = text_encoder
        self.statistics = statistics
        mean, std = (None, None) if statistics is None else self._columns_of(statistics)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    @property
    def text_encoder(self) -> TextEncoder:
        """The frozen encoder the model was trained with, loaded when first used."""
        if self._text_encoder is None:
            self._text_encoder = load_text_encoder(
                self.config.text_encoder, max_tokens=self.config.text_max_tokens or None)
        return self._text_encoder

    @property
    def skeleton(self) -> Skeleton:
        return load_skeleton(self.config.skeleton)

    @property
    def device(self) -> torch.device:
        return self.denoiser.output_projection.weight.device

    @property
    def frames_per_token(self) -> int:
        return self.config.autoencoder.downsampling if self.config.autoencoder else 1

    def encode_text(self, texts: list[str]) -> TextFeatures | None:
        """Features of the texts on the model's device; None for a model that reads none."""
        if self.config.condition != "text":
            return None
        return self.text_encoder.encode(texts).to(self.device)

    def columns(self) -> list[int] | slice:
        """The feature columns that the model works with."""
        return autoencoder_columns(self.skeleton.num_joints) if self.autoencoder is not None else slice(None)

    def normalise(self, features: Tensor) -> Tensor:
        """Normalised motion (B, T, D) from features (B, T, F) in their units."""
        return (features[..., self.columns()] - self.mean) / self.std

    def denormalise(self, motion: Tensor) -> Tensor:
        return motion if self.mean is None else motion * self.std + self.mean

    def to_diffused(self, motion: Tensor, mask: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the denoiser works on, and its mask: the motion itself, or latents (B, T/4, C) of the autoencoder.

        `noise` samples the autoencoder's posterior; without it its mean is taken. Latents are passed through.
        """
        if self.autoencoder is None or motion.shape[-1] == self.config.num_features:
            return motion, mask
        posterior = self.autoencoder.encode(motion[..., self.columns_in(motion)], mask)
        latents = posterior.mean if noise is None else posterior.sample(noise)
        return self.autoencoder.normalise(latents), mask[:, :: self.frames_per_token]

    def from_diffused(self, x: Tensor, mask: Tensor) -> Tensor:
        """Features (B, T, D) in their units from what the denoiser made; mask (B, T) True at frames that are kept."""
        if self.autoencoder is not None:
            x = self.autoencoder.decode(self.autoencoder.denormalise(x), mask)
        return self.denormalise(x)

    def columns_in(self, motion: Tensor) -> list[int] | slice:
        """The autoencoder's columns in a motion that has all features or only those."""
        return slice(None) if motion.shape[-1] == self.config.autoencoder.num_columns else self.columns()

    def joints(self, features: Tensor) -> Tensor:
        """Joints (..., T, J, 3) in metres from features in their units."""
        if self.config.features != "humanml":
            raise RepresentationMismatch(f"{self.config.features} motion has rotations, no joints: it needs a body model")
        skeleton = self.skeleton
        width = 4 + 3 * (skeleton.num_joints - 1)
        return joints_from_features(features[..., :width], skeleton) * skeleton.metres_per_unit

    def motion(self, features: Tensor, *captions: str) -> Motion:
        """Features (T, D) in their units as joints in metres."""
        return Motion(self.joints(features)[None].cpu().numpy(), self.config.fps, self.config.skeleton, captions)

    @torch.no_grad()
    def generate_features(self, texts: Texts, lengths: Sequence[int], seeds: Sequence[int],
                          sampling: Sampling = OWN, extras: Extras = NO_EXTRAS) -> list[Tensor]:
        """Features [(lengths[i], D)] in their units, of the columns that the model makes. Raises LengthError, EditError.

        A prefix model also takes a list of prompts per sample, one for each piece of `pred_len` frames.
        """
        if not len(texts) == len(lengths) == len(seeds):
            raise ValueError(f"{len(texts)} texts, {len(lengths)} lengths and {len(seeds)} seeds: expected as many of each")
        lengths = [int(length) for length in lengths]
        check_lengths(self, lengths)
        self.eval()
        made: list[Tensor] = []
        for start in range(0, len(texts), sampling.batch_size):
            rows = slice(start, start + sampling.batch_size)
            whole = _generate_pieces if self.config.context_len else _generate_whole
            made += whole(self, list(texts[rows]), lengths[rows], list(seeds[rows]), sampling, extras.rows(rows))
        sigma = self.config.smoothing if sampling.smoothing is None else sampling.smoothing
        return [smooth(features, sigma) for features in made] if sigma else made

    def reads_text(self) -> bool:
        return self.config.condition == "text"

    def why_not_finite(self, sampling: Sampling) -> str:
        scale, own = scale_of(self, sampling), self.config.guidance_scale
        return f"the guidance scale is too large ({scale:g}; the model's own is {own:g}), or {NOT_FINITE}"

    def _columns_of(self, statistics: Statistics) -> tuple[Tensor, Tensor]:
        check_statistics(self.config, statistics)
        mean, std = (torch.as_tensor(array, dtype=torch.float32) for array in (statistics.mean, statistics.std))
        if self.config.autoencoder and mean.shape[-1] != self.config.autoencoder.num_columns:
            mean, std = mean[self.columns()], std[self.columns()]
        return mean.clone(), std.clone()


def check_statistics(config: LSReMGMConfig, statistics: Statistics) -> None:
    """RepresentationMismatch unless the statistics belong to the motion that the configuration describes."""
    found = statistics.representation
    wanted = Representation(config.skeleton, config.fps, config.heading)
    wanted.require(found, "the model", "the data")
    width = len(statistics.mean)
    expected = load_skeleton(config.skeleton).num_features if config.autoencoder else config.num_features
    if width != expected and not (config.autoencoder and width == config.autoencoder.num_columns):
        raise RepresentationMismatch(f"{found.skeleton} motions have {width} features, this model expects {expected} "
                                     f"({config.skeleton}): pass a dataset of skeleton {config.skeleton}")


def build(
    config: LSReMGMConfig, statistics: Statistics | None = None, text_encoder: TextEncoder | None = None
) -> LSReMGM:
    """A model with fresh weights. `text_encoder` replaces the one named in the configuration."""
    return LSReMGM(config, statistics, text_encoder)


def check_lengths(nets: LSReMGM, lengths: Sequence[int]) -> None:
    """LengthError unless every length can be made: 1 to max_frames, without an end for prefix models."""
    longest = None if nets.config.context_len else nets.config.max_frames
    for length in lengths:
        if length < 1 or (longest is not None and length > longest):
            fps = nets.config.fps
            limit = "" if longest is None else f" to {longest} ({longest / fps:.1f} s at {fps:g} frames per second)"
            raise LengthError(f"this model makes motions of 1{limit} frames, not {length}")


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
