"""LS-ReMGM as one object: the denoiser with what makes it a model, its training objective, and what it can be asked for.

Tevet et al. 2023, §3; DiP: Tevet et al. 2025. How motions are sampled: `model/lsremgm_generate.py`.
"""

from collections.abc import Mapping, Sequence
from functools import partial

import torch
from torch import Tensor

from data_loaders.corpus import Batch, Statistics
from data_loaders.edit_masks import TargetLocation, target_location, target_rows
from data_loaders.features import FeaturesMismatch
from diffusion.gaussian import Diffusion
from diffusion.losses import LossWeights, MotionTerms, masked_goal_l2, training_loss
from model import lsremgm_generate
from model.capabilities import OWN, Decoding, Request
from model.lsremgm_config import LSReMGMConfig
from model.lsremgm_network import MotionDenoiser
from model.model import Draws, Generators, Model
from model.text_encoders import TextEncoder, TextFeatures
from model.text_towers import load_text_encoder
from protos.randomness import rand, randint, randn

# DiP draws one of these sets per sample; each joint comes with a heading.
TARGET_SETS = ((), ("pelvis",), ("traj",), ("right_wrist",), ("left_wrist",), ("right_foot",), ("left_foot",))


class LSReMGM(Model):
    """The network `denoiser` predicts normalised features (B, T, D), or what else `to_diffused` makes of them."""

    network = MotionDenoiser
    frames_per_token = 1

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

    def encode_text(self, texts: Sequence[str]) -> TextFeatures | None:
        """Features of the texts on the model's device; None for a model that reads none."""
        if self.config.condition != "text":
            return None
        if self.text_encoder is None:
            self.text_encoder = load_text_encoder(self.config.text_encoder, max_tokens=self.config.text_max_tokens or None)
        return self.text_encoder.encode(list(texts)).to(self.device)

    def generate(self, requests: Sequence[Request], decoding: Decoding = OWN) -> list[Tensor]:
        """Features [(frames, D)] in their units, of the columns that are made. Raises LengthError, EditError.

        A prefix model takes several texts for a motion, one for each piece of `pred_len` frames.
        """
        return lsremgm_generate.generate(self, requests, decoding)

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
