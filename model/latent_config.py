"""The settings of `latent`: LS-ReMGM in the latents of a motion autoencoder, with what lets it learn from few recordings.

The flags of `train.train_latent` and the config.json of its checkpoints. Defaults are those of the starter weights.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from model.lsremgm_config import LSReMGMConfig
from protos.flags import SHARE, WEIGHT, Range, with_defaults


@dataclass(frozen=True, kw_only=True)
class LatentNetwork:
    """What the network adds to LS-ReMGM's"""

    norm_first: bool = True
    """Normalise before attention and feed-forward layers instead of after."""
    modulation: bool = True
    """With --norm_first: step and whole text also shift, scale and gate every layer (as in DiT and PixArt)."""
    output_skip: bool = True
    """The prediction also takes a share, learned per step and channel, of the noisy input: details survive better."""


@dataclass(frozen=True, kw_only=True)
class FewRecordings:
    """What lets few recordings hold for more"""

    text_noise: Annotated[float, Range(0, 100)] = 0.5
    """Noise on the features of texts in training, relative to their size: few captions then hold for more wordings."""
    word_drop: Annotated[float, SHARE] = 0.2
    """Share of the words that is left out in training, for the same reason."""
    min_snr_gamma: Annotated[float, WEIGHT] = 500.0
    """Weight diffusion steps by min(SNR, gamma), Hang et al. 2023, 5 in the paper; 0: all alike."""
    snr_power: Annotated[float, Range(-10, 10)] = 0.5
    """Power of that weight; 0.5 gives the noisiest steps, where the text decides most, their share."""
    snr_floor: Annotated[float, SHARE] = 1e-3
    """Least SNR that counts in that weight."""
    calm_power: Annotated[float, Range(-10, 10)] = 0.5
    """Power by which motions with little movement count more; 0.5 lets small gestures be learnt beside walks."""
    smoothing: Annotated[float, Range(0, 1000)] = 0.0
    """Gaussian over sampled motions, sigma in frames; 0: none."""


@dataclass(frozen=True, kw_only=True)
@with_defaults(latent_dim=256, dropout=0.0, mask_frames=True, sampler="dpmpp", sampling_steps=20)
class LatentConfig(FewRecordings, LatentNetwork, LSReMGMConfig):
    """What is set otherwise than in LS-ReMGM"""

    arch: Literal["auto", "trans_enc", "trans_dec"] = "trans_dec"
    """Denoiser: reads texts as one vector (trans_enc) or word by word (trans_dec)."""

    def __post_init__(self):
        super().__post_init__()
        if self.modulation and not self.norm_first:
            raise ValueError("modulation works on layers that normalise first: it needs norm_first")
        if self.context_len:
            raise ValueError(f"context_len {self.context_len} is a prefix of frames, which latents do not have")
