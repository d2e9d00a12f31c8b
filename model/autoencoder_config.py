"""The settings of the motion autoencoder: the flags of `train.train_autoencoder` and the config.json of its checkpoints."""

from dataclasses import dataclass
from typing import Annotated

from data_loaders.features import HUMANML3D, Features
from protos.flags import CHANNELS, LAYERS, WEIGHT, Bounded, Range, decided


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(Bounded):
    """Networks and losses of the autoencoder"""

    latent_channels: Annotated[int, CHANNELS] = 64
    """Channels of one latent."""
    downsampling: Annotated[int, LAYERS] = 4
    """Frames per latent."""
    width: Annotated[int, CHANNELS] = 256
    """Channels of the layers that work on latents."""
    num_blocks: Annotated[int, Range(0, 64)] = 4
    """Residual blocks of encoder and decoder that work on latents."""
    fine_width: Annotated[int, CHANNELS] = 128
    """Channels of the layers that work on frames."""
    num_fine_blocks: Annotated[int, Range(0, 64)] = 3
    """Residual blocks of the decoder that work on frames."""
    causal: bool = False
    """No latent reads a later frame, no frame a later latent: for motion that is made while it goes on."""
    kl_weight: Annotated[float, WEIGHT] = 1e-4
    """Weight of the KL term that keeps latents bounded."""
    latent_noise: Annotated[float, Range(0, 100)] = 0.1
    """Noise on latents in training, relative to their spread: what lies below it, a generator need not get right."""
    decorrelation: Annotated[float, WEIGHT] = 1.0
    """Weight of the mean square correlation between channels of latents: each then holds what the others do not, however slight
    the movement, and the noise spares it."""
    features: Features = decided(HUMANML3D)
    dataset: str = decided("")
