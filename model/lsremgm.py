"""LS-ReMGM as one object: the denoiser with what makes it a model, and its training objective; and the same in the latents of a
motion autoencoder, `Latent`, which is only what that adds. How both are sampled: `model/lsremgm_sampling.py`.

Tevet et al. 2023, §3; DiP: Tevet et al. 2025.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_loaders.corpus import Batch
from data_loaders.edit_masks import TargetLocation, target_location, target_rows
from data_loaders.features import FeaturesMismatch, Statistics
from diffusion.gaussian import Diffusion
from diffusion.linear_steps import linear_steps
from diffusion.losses import LossWeights, MotionTerms, masked_goal_l2, training_loss
from model.autoencoder import MotionAutoencoder
from model.capabilities import OWN, Decoding, Passage, Request
from model.lsremgm_config import LatentConfig, LSReMGMConfig
from model.lsremgm_network import LatentDenoiser, MotionDenoiser
from model.lsremgm_sampling import (
    actions_of,
    check_lengths,
    long_in_pieces,
    long_in_windows,
    motions_in_pieces,
    scale_of,
    smooth,
    smoothing_kernel,
    steps_of,
    whole_motions,
)
from model.model import Draws, Generators, Model, ReadsTexts, require_only
from model.network_calls import NetworkCall, decoder_call, denoiser_call, text_inputs
from model.text_encoders import EncodesTexts, PieceReader, TextEncoder, TextFeatures
from model.text_towers import load_text_encoder
from protos.randomness import rand, randint, randn

# DiP draws one of these sets per sample; each joint comes with a heading.
TARGET_SETS = ((), ("pelvis",), ("traj",), ("right_wrist",), ("left_wrist",), ("right_foot",), ("left_foot",))


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
        made = (motions_in_pieces if config.context_len else whole_motions)(self, requests, decoding)
        sigma = self.smoothing if decoding.smoothing is None else decoding.smoothing
        return [smooth(features, sigma) for features in made] if sigma else made

    @torch.no_grad()
    def compose(self, passages: Sequence[Passage], seed: int = 0, decoding: Decoding = OWN) -> Iterator[Tensor]:
        """Features (n, D) in their units, on the CPU, of a long motion, as they are made: a prefix model goes on piece by piece,
        others blend windows, `BLOCK` of them at a time, of which the last ends what the next block begins with.
        """
        if self.eval().config.condition == "action":
            raise ValueError("this model makes actions by their numbers: long motions are made of texts")
        yield from (long_in_pieces if self.config.context_len else long_in_windows)(self, passages, seed, decoding)

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
            return {"action": actions_of([Request("", 1, action=int(text)) if text.isdecimal() else Request("", 1)
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


class Latent(LSReMGM):
    """LS-ReMGM whose denoiser works on the latents (B, T/4, C) of its part `autoencoder`, or on frames where it has none."""

    network = LatentDenoiser

    @staticmethod
    def channels_of(config: LatentConfig, parts: Mapping[str, Model]) -> int:
        """Channels of a latent, or of a frame."""
        autoencoder = parts.get("autoencoder")
        return LSReMGM.channels_of(config, parts) if autoencoder is None else autoencoder.config.latent_channels

    @property
    def autoencoder(self) -> MotionAutoencoder | None:
        """The part in whose latents motion is denoised."""
        return self.parts.get("autoencoder")

    @property
    def frames_per_token(self) -> int:
        """4 for latents of 4 frames."""
        return 1 if self.autoencoder is None else self.autoencoder.config.downsampling

    @property
    def reach(self) -> int:
        """Latents to either side on which a decoded frame depends."""
        return 0 if self.autoencoder is None else self.autoencoder.network.reach

    def network_calls(self) -> dict[str, NetworkCall]:
        """The denoiser, and where there is an autoencoder its `decoder`."""
        calls, autoencoder = super().network_calls(), self.autoencoder
        return calls if autoencoder is None else calls | {"decoder": decoder_call(autoencoder.network, self.num_channels)}

    def completed(self, made: Tensor) -> Tensor:
        return made if self.autoencoder is None else self.features.completed(made, self.autoencoder.columns)

    def normalise(self, features: Tensor) -> Tensor:
        """(B, T, D), or the autoencoder's columns, in units of the mean and std that it was trained with."""
        return super().normalise(features) if self.autoencoder is None else self.autoencoder.normalise(features)

    @property
    def smoothing(self) -> float:
        """Of what is sampled, sigma in frames."""
        return self.config.smoothing

    def to_diffused(self, motion: Tensor, mask: Tensor, generator: Generators | None = None) -> tuple[Tensor, Tensor]:
        """Latents (B, T/4, C) of unit variance: a draw of the autoencoder's posterior, without a generator its mean."""
        if self.autoencoder is None:
            return motion, mask
        network = self.autoencoder.network
        posterior = network.encode(motion, mask)
        latents = posterior.mean
        if generator is not None:
            latents = posterior.sample(randn(generator, latents.shape, device=latents.device, dtype=motion.dtype))
        return network.normalise(latents), mask[:, :: self.frames_per_token]

    def from_diffused(self, x: Tensor, mask: Tensor) -> Tensor:
        """Features (B, T, C) in their units, of the columns that the autoencoder keeps, from latents (B, T/4, C)."""
        if self.autoencoder is None:
            return super().from_diffused(x, mask)
        network = self.autoencoder.network
        return self.autoencoder.denormalise(network.decode(network.denormalise(x), mask))

    def text_to_train_on(self, batch: Batch, generator: Generators) -> TextFeatures | None:
        """Features of the texts, with noise and without some of their words."""
        text, c = super().text_to_train_on(batch, generator), self.config
        if text is None or not (c.text_noise or c.word_drop):
            return text
        seeds = randint(generator, 2**31, (len(batch.texts), 3), device=self.device)
        return perturbed(text, seeds.tolist(), c.text_noise, c.word_drop)

    def loss_weights(self, has_target: bool) -> LossWeights:
        """With weights of diffusion steps and of calm motion."""
        c = self.config
        return replace(super().loss_weights(has_target), min_snr_gamma=c.min_snr_gamma or None, snr_power=c.snr_power,
                       snr_floor=c.snr_floor, calm_power=c.calm_power)  # fmt: skip

    def velocity_columns(self) -> int:
        """All, of latents."""
        return super().velocity_columns() if self.autoencoder is None else self.num_channels

    def joints_of_diffused(self, x: Tensor) -> Tensor:
        """FeaturesMismatch of latents, which have none."""
        if self.autoencoder is None:
            return super().joints_of_diffused(x)
        raise FeaturesMismatch("lambda_rcxyz and lambda_fc compare joints, which latents do not have: set both to 0")


def perturbed(text: TextFeatures, seeds: Sequence[Sequence[int]], noise: float, word_drop: float) -> TextFeatures:
    """Text features with Gaussian noise, of `noise` times their own size, and without a share `word_drop` of the words.

    A few thousand captions are soon known by heart; this makes what is learnt of them hold for what is said otherwise.
    The first token, which stands for the whole text, stays. Three seeds per text, so that what happens to it depends
    neither on its neighbours nor on how far it is padded.
    """
    pooled, tokens, mask = text.pooled, text.tokens, text.mask
    for_pooled, for_tokens, for_mask = ([torch.Generator().manual_seed(s) for s in column] for column in zip(*seeds))
    if noise:
        size = pooled.square().mean(-1, keepdim=True).sqrt()  # (B, 1)
        pooled = pooled + noise * size * randn(for_pooled, pooled.shape).to(pooled)
        squares = (tokens.square().mean(-1) * mask).sum(1) / mask.sum(1)  # (B,)
        tokens = tokens + noise * squares.sqrt()[:, None, None] * randn(for_tokens, tokens.shape).to(tokens)
    if word_drop:
        kept = rand(for_mask, mask.shape).to(mask.device) >= word_drop
        kept[:, 0] = True
        mask = mask & kept
    return TextFeatures(pooled, tokens, mask)
