"""LS-ReMGM as one object: the denoiser with what makes it a model, its training objective, and how it samples.

Tevet et al. 2023, §3; DiP: Tevet et al. 2025. Models without `mask_frames` are sampled at full length and cut, masked ones at the
requested length, prefix models (DiP) piece by piece.
"""

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_loaders.corpus import Batch
from data_loaders.edit_masks import EditError, TargetLocation, target_location, target_rows
from data_loaders.features import Features, FeaturesMismatch, Statistics
from diffusion.gaussian import Denoise, Diffusion, EditX0
from diffusion.guidance import dropped_rows, guided, keep_given, stack_conditions
from diffusion.linear_steps import linear_steps
from diffusion.losses import LossWeights, MotionTerms, masked_goal_l2, training_loss
from diffusion.samplers import Noise, sample, sample_noise
from diffusion.windows import Window, decoded_pieces, in_tokens, in_turns, laid_out, windowed, windows_over
from model.capabilities import OWN, Decoding, Guidance, Passage, Request
from model.lsremgm_config import LSReMGMConfig
from model.lsremgm_network import MotionDenoiser
from model.model import Draws, Generators, Model, ReadsTexts, require_only
from model.network_calls import NetworkCall, denoiser_call, text_inputs
from model.smoothing import smooth, smoothing_kernel
from model.text_encoders import EncodesTexts, PieceReader, TextEncoder, TextFeatures
from model.text_towers import load_text_encoder
from protos.randomness import derive_seed, rand, randint, randn

log = logging.getLogger(__name__)
BLOCK = 16  # windows of a long motion that are denoised together
OVERLAP = 1.0  # seconds in which one window passes over into the next
# DiP draws one of these sets per sample; each joint comes with a heading.
TARGET_SETS = ((), ("pelvis",), ("traj",), ("right_wrist",), ("left_wrist",), ("right_foot",), ("left_foot",))


class LengthError(ValueError):
    """A length that the model cannot make."""


class LSReMGM(ReadsTexts):
    """The network `denoiser` predicts normalised features (B, T, D), or what else `to_diffused` makes of them."""

    network = MotionDenoiser
    frames_per_token = 1
    reach = 0  # tokens to either side on which what is decoded of one depends
    smoothing = 0.0  # of what is sampled, sigma in frames: none, as published

    def __init__(self, config: LSReMGMConfig, statistics: Statistics | None = None, parts: Mapping[str, Model] | None = None,
                 text_encoder: TextEncoder | None = None):
        """text_encoder replaces the frozen one that the configuration names."""
        config = config.resolved()
        self.num_channels = self.channels_of(config, parts or {})
        super().__init__(config, statistics, {"denoiser": self.network(config, self.num_channels)}, parts=parts)
        self.diffusion = Diffusion.create(
            config.noise_schedule, config.diffusion_steps, config.prediction,
            "fixed_small" if config.sigma_small else "fixed_large")
        self.text_encoder = text_encoder

    @staticmethod
    def channels_of(config: LSReMGMConfig, parts: Mapping[str, Model]) -> int:
        """Columns of what is denoised."""
        return config.features.width * config.features.persons

    @property
    def denoiser(self) -> MotionDenoiser:
        """Predicts the clean motion from a noisy one."""
        return self.networks["denoiser"]

    def reader(self) -> EncodesTexts:
        return load_text_encoder(self.config.text_encoder, max_tokens=self.config.text_max_tokens or None)

    @torch.no_grad()
    def generate(self, requests: Sequence[Request], decoding: Decoding = OWN) -> list[Tensor]:
        """Features [(frames, D)] in their units, of the columns that are made. Raises LengthError, EditError.

        A prefix model takes several texts for a motion, one for each piece of `pred_len` frames.
        """
        config = self.eval().config
        check_lengths([request.frames for request in requests], self.features, None if config.context_len else config.max_frames)
        taken = ["prefix", "include_prefix"] if config.context_len else ["motion", "keep"]
        taken += ["target"] * (config.target_encoder != "none") + ["action"] * (config.condition == "action")
        for request in requests:
            require_only(request, taken, "this model does not take it")
        made = (_generate_pieces if config.context_len else _generate_whole)(self, requests, decoding)
        sigma = self.smoothing if decoding.smoothing is None else decoding.smoothing
        return [smooth(features, sigma) for features in made] if sigma else made

    @torch.no_grad()
    def compose(self, passages: Sequence[Passage], seed: int = 0, decoding: Decoding = OWN) -> Iterator[Tensor]:
        """Features (n, D) in their units, on the CPU, of a long motion, as they are made: a prefix model goes on piece by piece,
        others blend windows, `BLOCK` of them at a time, of which the last ends what the next block begins with.
        """
        if self.eval().config.condition == "action":
            raise ValueError("this model makes actions by their numbers: long motions are made of texts")
        yield from (_long_pieces if self.config.context_len else _long_windows)(self, passages, seed, decoding)

    def network_calls(self) -> dict[str, NetworkCall]:
        """The denoiser; targets of DiP are left out."""
        return {"denoiser": denoiser_call(self.denoiser, self.num_channels)}

    def loop_numbers(self) -> dict[str, np.ndarray]:
        """ValueError for plms."""
        made = self.parts.get("autoencoder", self)
        mean, std = (torch.zeros(1), torch.ones(1)) if made.mean is None else (made.mean, made.std)
        steps = linear_steps(self.diffusion, self.config.sampler, steps_of(self, self.config.sampling_steps))
        return {**steps, "mean": mean.numpy(), "std": std.numpy(), "kernel": smoothing_kernel(self.smoothing).numpy()}

    def loop_settings(self) -> dict[str, Any]:
        config = self.config
        return {"channels": self.num_channels, "frames_per_token": self.frames_per_token, "max_frames": config.max_frames,
                "any_length": config.mask_frames or bool(config.context_len), "context_len": config.context_len,
                "pred_len": config.pred_len, "guidance_scale": scale_of(self, OWN)}  # fmt: skip

    def prompt_inputs(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """Of a model of actions the prompts are their numbers. ValueError for others."""
        if self.config.condition == "action":
            return {"action": _actions([Request("", 1, action=int(text)) if text.isdecimal() else Request("", 1)
                                        for text in prompts], self.config.num_actions)}  # fmt: skip
        text = self.encode_text(prompts)
        return {} if text is None else text_inputs(text, self.network_calls()["denoiser"])

    def piece_reader(self) -> PieceReader | None:
        encoder = self.opened_encoder() if self.config.reads_text else None
        return encoder.tower.reader if isinstance(encoder, TextEncoder) else None

    def inpaints(self) -> bool:
        """Whether frames and columns of a given motion can be kept: neither in latents nor piece by piece."""
        return not self.parts and not self.config.context_len

    def to_diffused(self, motion: Tensor, mask: Tensor, generator: Generators | None = None) -> tuple[Tensor, Tensor]:
        """What the denoiser works on, and its mask, of normalised motion (B, T, D) with mask (B, T)."""
        return motion, mask

    def from_diffused(self, x: Tensor, mask: Tensor) -> Tensor:
        """Features (B, T, D) in their units from what the denoiser made; mask (B, T) True at frames that are kept."""
        return self.denormalise(x)

    def loss(self, batch: Batch, draws: Draws) -> dict[str, Tensor]:
        """Terms (B,) of one denoising step per sample; "loss" is their weighted sum.

        The first context_len frames of a prefix model's crop are its prefix.
        """
        config, samples = self.config, draws.samples
        motion, mask = self.masked(batch)
        size, device = len(motion), motion.device
        # Drawn in this order, the noise last: its first frames then do not depend on how far a batch is padded.
        t = randint(samples, config.diffusion_steps, (size,), device=device)
        chances = rand(samples, (size, 3), device=device)
        text = self.text_to_train_on(batch, samples)
        with torch.no_grad():
            x0, mask = self.to_diffused(motion, mask, samples)
        prefix = None
        if config.context_len:
            prefix, x0, mask = x0[:, : config.context_len], x0[:, config.context_len :], mask[:, config.context_len :]
        noise = randn(samples, x0.shape, device=device, dtype=x0.dtype)
        target = self.draw_target(x0, mask, chances[:, 1]) if config.target_encoder != "none" else None
        denoise = partial(
            self.denoiser, text=text, mask=mask, prefix=prefix, target=target, drop=chances[:, 0] < config.cond_mask_prob,
            action=self._actions(batch), drop_target=chances[:, 2] < config.cond_mask_prob)
        terms = MotionTerms(joints=self.joints_of_diffused, velocity_columns=self.velocity_columns(),
                            goal=partial(self.goal_error, target, mask))
        return training_loss(denoise, x0, t, noise, mask, self.diffusion, self.loss_weights(target is not None), terms)

    def text_to_train_on(self, batch: Batch, generator: Generators) -> TextFeatures | None:
        """Features of the batch's texts, which came with it."""
        return batch.text_features["text"].to(self.device) if self.config.condition == "text" else None

    def loss_weights(self, has_target: bool) -> LossWeights:
        """Weights of the terms of the loss."""
        c = self.config
        return LossWeights(velocity=c.lambda_vel, joints=c.lambda_rcxyz, foot_contact=c.lambda_fc,
                           goal=c.lambda_target_loc if has_target else 0.0)  # fmt: skip

    def velocity_columns(self) -> int:
        """End of the columns whose differences count: as published, all but the last row of features."""
        return -6 if self.features.kind == "smpl_rot6d" else -1

    def joints_of_diffused(self, x: Tensor) -> Tensor:
        """Joints (B, T, J, 3) in metres of what the denoiser works on; FeaturesMismatch where it has none."""
        return self.features.joints(self.denormalise(x))

    def draw_target(self, x0: Tensor, mask: Tensor, chance: Tensor) -> TargetLocation:
        """Where each motion ends, for a joint set drawn by `chance` (B,) in [0, 1) out of TARGET_SETS."""
        sets = [TARGET_SETS[i] for i in (chance * len(TARGET_SETS)).long().clamp(max=len(TARGET_SETS) - 1).tolist()]
        valid = target_rows(sets, [bool(names) for names in sets])
        return target_location(self.denormalise(x0), mask.sum(1), valid.to(x0.device), self.features)

    def goal_error(self, target: TargetLocation, mask: Tensor, x0: Tensor) -> Tensor:
        """Squared distance (B,) between where predicted motion ends and the target."""
        reached = target_location(self.denormalise(x0), mask.sum(1), target.valid, self.features)
        return masked_goal_l2(reached.values, target.values, target.valid)

    def _actions(self, batch: Batch) -> Tensor | None:
        if self.config.condition != "action":
            return None
        try:
            return torch.tensor([int(text) for text in batch.texts], device=self.device)
        except ValueError:
            raise FeaturesMismatch("an action model trains on action numbers in place of texts") from None


def check_lengths(lengths: Sequence[int], features: Features, longest: int | None) -> None:
    """LengthError unless every length can be made: 1 to `longest` frames, None being without an end."""
    for length in lengths:
        if length < 1 or (longest is not None and length > longest):
            fps = features.fps
            limit = "" if longest is None else f" to {longest} ({longest / fps:.1f} s at {fps:g} frames per second)"
            raise LengthError(f"this model makes motions of 1{limit} frames, not {length}")


def denoiser(model: LSReMGM, requests: Sequence[Request], texts: Sequence[str], mask: Tensor, guidance_scale: float,
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
    action = _actions(requests, config.num_actions) if config.condition == "action" else None
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


def _actions(requests: Sequence[Request], known: int) -> Tensor:
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


def _generate_whole(model: LSReMGM, requests: Sequence[Request], decoding: Decoding) -> list[Tensor]:
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
        keep[row, :given] = request.keep[:given].to(model.device)
    return keep_given(motion, keep)


def _generate_pieces(model: LSReMGM, requests: Sequence[Request], decoding: Decoding) -> list[Tensor]:
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


def _long_pieces(model: LSReMGM, passages: Sequence[Passage], seed: int, decoding: Decoding) -> Iterator[Tensor]:
    """As `_generate_pieces` goes on, each passage with pieces of its own."""
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


def _long_windows(model: LSReMGM, passages: Sequence[Passage], seed: int, decoding: Decoding) -> Iterator[Tensor]:
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


def _blocks(model: LSReMGM, texts: Sequence[str], windows: Sequence[Window], seed: int, decoding: Decoding) -> Iterator[Tensor]:
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
