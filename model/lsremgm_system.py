"""LS-ReMGM as one object: the denoiser, and the statistics, text encoder and autoencoder that make it a model, and sampling.

Models without `mask_frames` are sampled at full length and cut, masked ones at the requested length, prefix models
(DiP) piece by piece. Every sample draws its noise from its own seed, so it does not depend on the batch or on padding.
"""

import logging
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from data_loaders.corpus import Motion, Statistics
from data_loaders.edit_masks import EditError, TargetLocation
from data_loaders.features import FeaturesMismatch
from data_loaders.skeleton import Skeleton, load_skeleton
from diffusion.gaussian import Denoise, Diffusion
from diffusion.guidance import dropped_rows, guided, stack_conditions
from diffusion.inpainting import keep_given
from diffusion.samplers import sample
from model.capabilities import OWN, Decoding, Request, require_only
from model.lsremgm import LSReMGMConfig, MotionDenoiser
from model.lsremgm_generate import LengthError, autoregress, sample_noise, smooth
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
        return autoencoder_columns(self.config.motion_features) if self.autoencoder is not None else slice(None)

    def normalise(self, features: Tensor) -> Tensor:
        """Normalised motion (B, T, D) of the columns the model works with, from features (B, T, F) in their units."""
        features = features[..., self.columns()]
        return features if self.mean is None else (features - self.mean) / self.std

    def denormalise(self, motion: Tensor) -> Tensor:
        return motion if self.mean is None else motion * self.std + self.mean

    def to_diffused(self, motion: Tensor, mask: Tensor, noise: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """What the denoiser works on, and its mask: the motion itself, or latents (B, T/4, C) of the autoencoder.

        `noise` samples the autoencoder's posterior; without it its mean is taken.
        """
        if self.autoencoder is None:
            return motion, mask
        posterior = self.autoencoder.encode(motion, mask)
        latents = posterior.mean if noise is None else posterior.sample(noise)
        return self.autoencoder.normalise(latents), mask[:, :: self.frames_per_token]

    def from_diffused(self, x: Tensor, mask: Tensor) -> Tensor:
        """Features (B, T, D) in their units from what the denoiser made; mask (B, T) True at frames that are kept."""
        if self.autoencoder is not None:
            x = self.autoencoder.decode(self.autoencoder.denormalise(x), mask)
        return self.denormalise(x)

    def joints(self, features: Tensor) -> Tensor:
        """Joints (..., T, J, 3) in metres from features in their units."""
        made = self.config.motion_features
        return made.joints(features[..., : made.read_columns])  # what an autoencoder makes begins with those, too

    def motion(self, features: Tensor, *captions: str) -> Motion:
        """Features (T, D) in their units as joints in metres."""
        return Motion(self.joints(features)[None].cpu().numpy(), self.config.fps, self.config.skeleton, captions)

    @torch.no_grad()
    def generate(self, requests: Sequence[Request], decoding: Decoding = OWN) -> list[Tensor]:
        """Features [(frames, D)] in their units, of the columns that the model makes. Raises LengthError, EditError.

        A prefix model takes several texts for a motion, one for each piece of `pred_len` frames.
        """
        check_lengths(self, [request.frames for request in requests])
        for request in requests:
            require_only(request, self._takes(), "this model does not take it")
        self.eval()
        made = (_generate_pieces if self.config.context_len else _generate_whole)(self, requests, decoding)
        sigma = self.config.smoothing if decoding.smoothing is None else decoding.smoothing
        return [smooth(features, sigma) for features in made] if sigma else made

    def _takes(self) -> list[str]:
        """What else may be given with a request."""
        config = self.config
        taken = ["prefix", "include_prefix"] if config.context_len else ["motion", "keep"]
        return taken + ["target"] * (config.target_encoder != "none") + ["action"] * (config.condition == "action")

    def _columns_of(self, statistics: Statistics) -> tuple[Tensor, Tensor]:
        check_statistics(self.config, statistics)
        mean, std = (torch.as_tensor(array, dtype=torch.float32) for array in (statistics.mean, statistics.std))
        if self.config.autoencoder and mean.shape[-1] != self.config.autoencoder.num_columns:
            mean, std = mean[self.columns()], std[self.columns()]
        return mean.clone(), std.clone()


def check_statistics(config: LSReMGMConfig, statistics: Statistics) -> None:
    """FeaturesMismatch unless the statistics belong to the motion that the configuration describes."""
    found = statistics.features
    wanted = config.motion_features
    wanted.require(found, "the model", "the data")
    width = len(statistics.mean)
    expected = wanted.width if config.autoencoder else config.num_features
    if width != expected and not (config.autoencoder and width == config.autoencoder.num_columns):
        raise FeaturesMismatch(f"{found.skeleton} motions have {width} features, this model expects {expected} "
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


def denoiser(nets: LSReMGM, requests: Sequence[Request], texts: Sequence[str], mask: Tensor, guidance_scale: float,
             prefix: Tensor | None = None) -> Denoise:
    """denoise(x, t) under the texts, and what else was asked, with classifier-free guidance, both passes in one batch.

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
    target, no_target = _targets(requests)
    if target is not None:
        target = TargetLocation(*(stack_conditions(x.to(device), copies) for x in (target.values, target.valid)))
    action = _actions(requests, config.num_actions) if config.condition == "action" else None
    action, prefix, mask, no_target = (
        None if x is None else stack_conditions(x.to(device), copies) for x in (action, prefix, mask, no_target))

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        y = nets.denoiser(x, t, text, mask, action=action, prefix=prefix, target=target, drop=drop, drop_target=no_target)
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


def _actions(requests: Sequence[Request], known: int) -> Tensor:
    if any(request.action is None or not 0 <= request.action < known for request in requests):
        raise ValueError(f"this model makes actions: pass numbers from 0 to {known - 1}")
    return torch.tensor([request.action for request in requests])


def scale_of(nets: LSReMGM, decoding: Decoding) -> float:
    """The guidance scale to use; 1 for a model that never learned to do without its condition."""
    asked, own = decoding.guidance_scale, nets.config.own_guidance
    scale = nets.config.guidance_scale if asked is None else float(asked)
    if not math.isfinite(scale):
        raise ValueError(f"guidance scale {scale}: expected a finite number")
    if own is None and asked is not None and scale != 1:
        why = "has no condition to follow" if nets.config.condition == "none" else "was trained with its condition always present"
        log.warning("guidance scale %g is ignored: this model %s", scale, why)
    return 1.0 if own is None else scale


def _run(nets: LSReMGM, denoise: Denoise, shape: tuple[int, ...], noise: Callable, decoding: Decoding,
         edit_x0: Callable | None = None) -> Tensor:
    start = noise(torch.empty(shape, device=nets.device))
    sampler = decoding.sampler or nets.config.sampler
    if decoding.eta and sampler != "ddim":
        raise ValueError(f"eta {decoding.eta:g}: only the sampler ddim takes it, not {sampler}")
    if decoding.order is not None and sampler not in ("plms", "dpmpp"):
        raise ValueError(f"order {decoding.order}: only the samplers plms and dpmpp take it, not {sampler}")
    num_steps = nets.config.num_steps if decoding.sampling_steps is None else decoding.sampling_steps
    return sample(denoise, start, nets.diffusion, sampler=sampler, sampling_steps=num_steps, noise=noise,
                  eta=decoding.eta or 0.0, order=decoding.order, edit_x0=edit_x0, on_step=decoding.on_step)


def _generate_whole(nets: LSReMGM, requests: Sequence[Request], decoding: Decoding) -> list[Tensor]:
    """At max_frames without frame masks, else at the longest length."""
    config, step, lengths = nets.config, nets.frames_per_token, [request.frames for request in requests]
    frames = max(lengths) if config.mask_frames else config.max_frames
    tokens = -(-frames // step)
    length = torch.tensor(lengths, device=nets.device)[:, None]
    mask = torch.arange(tokens * step, device=nets.device) < -(-length // step) * step  # (B, T), whole tokens
    texts, noise = [request.text for request in requests], sample_noise([request.seed for request in requests])
    denoise = denoiser(nets, requests, texts, mask[:, ::step], scale_of(nets, decoding))
    x = _run(nets, denoise, (len(requests), tokens, config.num_features), noise, decoding, _edit(nets, requests, tokens))
    features = nets.from_diffused(x, mask)  # (B, T, D)
    return [row[:n] for row, n in zip(features, lengths, strict=True)]


def _edit(nets: LSReMGM, requests: Sequence[Request], frames: int) -> Callable[[Tensor], Tensor] | None:
    """Replacement of the kept part of x0 (B, T, D), padded or cut to `frames`; None where nothing is given."""
    if all(request.motion is None for request in requests):
        return None
    if nets.autoencoder is not None:
        raise EditError("this model works in latents of an autoencoder: frames and body parts cannot be kept; "
                        "use a model without an autoencoder to edit")
    motion = torch.zeros(len(requests), frames, nets.config.num_features, device=nets.device)
    keep = torch.zeros_like(motion, dtype=torch.bool)
    for row, request in enumerate(requests):
        if request.motion is None:
            continue
        if request.keep is None:
            raise EditError("an edit needs `keep` beside the motion: True where the motion stays")
        given = min(len(request.motion), frames)
        motion[row, :given] = nets.normalise(request.motion[:given].to(nets.device))
        keep[row, :given] = request.keep[:given].to(nets.device)
    return keep_given(motion, keep)


def _generate_pieces(nets: LSReMGM, requests: Sequence[Request], decoding: Decoding) -> list[Tensor]:
    """Piece by piece, each from the end of what went before (DiP)."""
    config, batch = nets.config, len(requests)
    prompts = [[request.text] if isinstance(request.text, str) else list(request.text) for request in requests]
    if not all(prompts):
        raise ValueError("a sample with an empty list of prompts")
    if any(request.prefix is None for request in requests):
        log.warning("no prefix given: the motion begins from the mean pose, not from data")
    prefix = torch.zeros(batch, config.context_len, config.num_features, device=nets.device)
    for row, request in enumerate(requests):
        if request.prefix is None:
            continue
        if request.prefix.shape != prefix.shape[1:]:
            raise EditError(f"a prefix of shape {tuple(request.prefix.shape)}: this model continues "
                            f"{config.context_len} frames of {config.num_features} features")
        prefix[row] = nets.normalise(request.prefix.to(nets.device))
    mask = torch.ones(batch, config.pred_len, dtype=torch.bool, device=nets.device)

    def next_frames(given: Tensor, call: int) -> Tensor:
        now = [sequence[min(call, len(sequence) - 1)] for sequence in prompts]
        denoise = denoiser(nets, requests, now, mask, scale_of(nets, decoding), given)
        noise = sample_noise([request.seed for request in requests], call)
        return _run(nets, denoise, (batch, config.pred_len, config.num_features), noise, decoding)

    made = autoregress(next_frames, prefix, max(request.frames for request in requests), config.pred_len)
    features = nets.denormalise(torch.cat([prefix, made], dim=1))  # (B, context + T, D)
    starts = [0 if request.include_prefix else config.context_len for request in requests]
    return [row[start:][: request.frames] for row, start, request in zip(features, starts, requests, strict=True)]
