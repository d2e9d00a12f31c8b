"""LS-ReMGM in the latents of a motion autoencoder: the starter's system, and only what it adds to `model/lsremgm.py`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_loaders.corpus import Batch
from data_loaders.features import FeaturesMismatch
from diffusion.losses import LossWeights
from model.autoencoder import MotionAutoencoder
from model.latent_config import LatentConfig
from model.layers import TransformerLayer
from model.lsremgm import LSReMGM
from model.lsremgm_network import MotionDenoiser, zero_where
from model.model import Generators, Model
from model.network_calls import NetworkCall, decoder_call
from model.text_encoders import TextFeatures
from protos.randomness import rand, randint, randn


class Modulation(nn.Module):
    """Shifts, scales and gates (B, layers, 9, C) of all layers from the step and the text as a whole.

    One projection for all layers and an offset per layer, as in PixArt-α (Chen et al. 2023, §2.3); without effect at
    first. A dropped text is a zero vector.
    """

    def __init__(self, config: LatentConfig):
        super().__init__()
        dim, vectors = config.latent_dim, TransformerLayer.MODULATED
        self.text_dim = config.text_dim if config.condition == "text" else 0
        if self.text_dim:
            self.text_projection = nn.Linear(self.text_dim, dim)
        self.projection = nn.Linear(dim, vectors * dim)
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)
        self.layer_offsets = nn.Parameter(torch.zeros(config.num_layers, vectors, dim))

    def forward(self, time: Tensor, text: TextFeatures | None, drop: Tensor | None) -> Tensor:
        given = time  # (B, C)
        if self.text_dim:
            pooled = time.new_zeros(1, self.text_dim) if text is None else F.layer_norm(text.pooled, (self.text_dim,))
            pooled = zero_where(drop, pooled.to(time.dtype).expand(len(time), -1))  # (B, text_dim)
            given = given + self.text_projection(pooled)
        shared = self.projection(F.silu(given))  # (B, 9 C)
        return shared.unflatten(-1, (1, -1, given.shape[-1])) + self.layer_offsets


class OutputSkip(nn.Module):
    """Prediction (B, T, D) out of the network's own one and its noisy input, per channel in shares that the step says.

    At little noise the input is nearly right: what a network must not forget of it, it need not carry through all
    layers. The shares are learned (Karras et al. 2022, §5, fixes them) and at first leave the network's prediction as it is.
    """

    def __init__(self, dim: int, num_features: int):
        super().__init__()
        self.shares = nn.Linear(dim, 2 * num_features)
        nn.init.zeros_(self.shares.weight)
        nn.init.zeros_(self.shares.bias)

    def forward(self, y: Tensor, x: Tensor, time: Tensor) -> Tensor:
        own, skipped = self.shares(F.silu(time))[:, None].chunk(2, dim=-1)  # (B, 1, D)
        return (1 + own) * y + skipped * x


class LatentDenoiser(MotionDenoiser):
    """The denoiser with layers that normalise first, modulation and output skip, each if its configuration says so."""

    def __init__(self, config: LatentConfig, num_features: int):
        super().__init__(config, num_features)
        dim = config.latent_dim
        if config.norm_first:
            self.final_norm = nn.LayerNorm(dim)
        if config.modulation:
            self.modulation = Modulation(self.config)
        if config.output_skip:
            self.output_skip = OutputSkip(dim, num_features)

    @property
    def reads_pooled(self) -> bool:
        """Whether it looks at texts as a whole: for the modulation of its layers too."""
        return super().reads_pooled or self.config.modulation

    def layer(self) -> TransformerLayer:
        """A layer that normalises first, if the configuration says so."""
        return super().layer(self.config.norm_first)

    def forward(self, x: Tensor, t: Tensor, *conditions, **given) -> Tensor:
        y = super().forward(x, t, *conditions, **given)
        return self.output_skip(y, x, self.time_mlp(self.positions[t])) if self.config.output_skip else y

    def modulated(self, time: Tensor, text: TextFeatures | None, drop: Tensor | None) -> Tensor | None:
        """Shifts, scales and gates (B, layers, 9, C) of the layers."""
        return self.modulation(time, text, drop) if self.config.modulation else None

    def trunk(self, *given) -> Tensor:
        """Hidden frames (B, T, C) before the output projection."""
        y = super().trunk(*given)
        return self.final_norm(y) if self.config.norm_first else y


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
