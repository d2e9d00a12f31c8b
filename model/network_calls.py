"""What of a model other programs call (ONNX): networks as functions of plain tensors, and the numbers of the loop around them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from model.text_encoders import PieceReader, TextFeatures

if TYPE_CHECKING:
    import numpy as np

    from model.autoencoder import AutoencoderNetwork
    from model.lsremgm_network import MotionDenoiser


@dataclass(frozen=True)
class Input:
    """A tensor that a network is given: its axes, by a name where their size may be any."""

    axes: tuple[str | int, ...]
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class NetworkCall:
    """One call of a network: `network(**inputs)` returns one tensor."""

    network: nn.Module
    inputs: dict[str, Input]


@runtime_checkable
class CalledOutside(Protocol):
    """Has networks that are useful when called alone, outside this program."""

    def network_calls(self) -> dict[str, NetworkCall]:
        """By the name of a file. Motion enters and leaves them normalised, padded as the masks tell."""


@runtime_checkable
class SampledOutside(CalledOutside, Protocol):
    """Makes motion by calling its network `denoiser` in a loop that is a few lines of any language."""

    def loop_numbers(self) -> "dict[str, np.ndarray]":
        """The weights of the sampler's steps (`diffusion/linear_steps.py`), `mean` and `std` of the columns that are made, and
        the `kernel` by which they are smoothed. ValueError for a sampler that is more than such weights."""

    def loop_settings(self) -> dict[str, Any]:
        """How many columns, tokens and frames the loop is about, and the guidance scale."""

    def prompt_inputs(self, prompts: Sequence[str]) -> dict[str, Tensor]:
        """The denoiser's inputs that prompts decide, a row each."""

    def piece_reader(self) -> PieceReader | None:
        """What reads its texts, where other programs can do that too."""


class DenoiserCall(nn.Module):
    """The denoiser of LS-ReMGM; see `MotionDenoiser.forward`. Two texts in a batch, one of them dropped, make guidance."""

    def __init__(self, denoiser: "MotionDenoiser"):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, x: Tensor, t: Tensor, mask: Tensor | None = None, drop: Tensor | None = None, pooled: Tensor | None = None,
                tokens: Tensor | None = None, text_mask: Tensor | None = None, action: Tensor | None = None,
                prefix: Tensor | None = None) -> Tensor:
        text = None if pooled is None and tokens is None else TextFeatures(pooled, tokens, text_mask)
        return self.denoiser(x, t, text, mask, action=action, prefix=prefix, drop=drop)  # (B, T, D)


class DecoderCall(nn.Module):
    """Normalised columns (B, 4 N, D) from what the denoiser made, latents x (B, N, C) with mask (B, N)."""

    def __init__(self, autoencoder: "AutoencoderNetwork"):
        super().__init__()
        self.autoencoder = autoencoder

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        of_frames = mask.repeat_interleave(self.autoencoder.downsampling, dim=1)  # (B, 4 N)
        return self.autoencoder.decode(self.autoencoder.denormalise(x), of_frames)


def denoiser_call(denoiser: "MotionDenoiser", num_channels: int) -> NetworkCall:
    """The call of a denoiser of so many columns, with those inputs that its configuration looks at."""
    config = denoiser.config
    inputs = {"x": Input(("batch", "tokens", num_channels)), "t": Input(("batch",), torch.int64)}
    if config.mask_frames:
        inputs["mask"] = Input(("batch", "tokens"), torch.bool)
    if config.condition != "none":
        inputs["drop"] = Input(("batch",), torch.bool)
    if config.condition == "action":
        inputs["action"] = Input(("batch",), torch.int64)
    if config.condition == "text" and denoiser.reads_pooled:
        inputs["pooled"] = Input(("batch", config.text_dim))
    if config.condition == "text" and denoiser.reads_words:
        inputs["tokens"] = Input(("batch", "words", config.text_dim))
        inputs["text_mask"] = Input(("batch", "words"), torch.bool)
    if config.context_len:
        inputs["prefix"] = Input(("batch", config.context_len, num_channels))
    return NetworkCall(DenoiserCall(denoiser), inputs)


def decoder_call(autoencoder: "AutoencoderNetwork", channels: int) -> NetworkCall:
    """The call of an autoencoder's decoder on latents of so many channels."""
    return NetworkCall(DecoderCall(autoencoder),
                       {"x": Input(("batch", "tokens", channels)), "mask": Input(("batch", "tokens"), torch.bool)})  # fmt: skip


def text_call(reader: PieceReader) -> NetworkCall:
    """Tokens (B, L, C) of ids, of texts of one token count."""
    return NetworkCall(reader.network, {"ids": Input(("batch", "words"), torch.int64)})


def text_inputs(text: TextFeatures, call: NetworkCall) -> dict[str, Tensor]:
    """The features of texts by the names of those inputs of a call that take them."""
    given = {"pooled": text.pooled, "tokens": text.tokens, "text_mask": text.mask}
    return {name: value for name, value in given.items() if name in call.inputs}
