"""LS-ReMGM as one object: the denoiser, and the statistics, text encoder and autoencoder that make it a model."""

import torch
from torch import Tensor, nn

from data_loaders.corpus import Motion, Representation, RepresentationMismatch, Statistics
from data_loaders.humanml_features import joints_from_features
from data_loaders.skeleton import Skeleton, load_skeleton
from diffusion.gaussian import Diffusion
from model.lsremgm import LSReMGMConfig, MotionDenoiser
from model.motion_autoencoder import MotionAutoencoder, autoencoder_columns
from model.text_encoders import TextEncoder, TextFeatures
from model.text_towers import load_text_encoder


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
