"""Text to motion by whichever system a checkpoint holds: LS-ReMGM by diffusion, TEMOS and TMR by decoding a text's latent."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from data_loaders.corpus import Motion
from model import lsremgm_generate
from model.lsremgm_generate import Sampling
from model.lsremgm_system import LSReMGM
from model.tmr import TMR

SYSTEMS = ("lsremgm", "tmr")  # names in model.pretrained

TextToMotion = LSReMGM | TMR


class NotFiniteError(ValueError):
    """A motion came out with NaN or infinite values."""


def reads_text(networks: TextToMotion) -> bool:
    return isinstance(networks, TMR) or networks.config.condition == "text"


def columns(networks: TextToMotion) -> list[int] | slice:
    """The feature columns that a model makes."""
    return slice(None) if isinstance(networks, TMR) else networks.columns()


def generate_features(networks: TextToMotion, texts: Sequence[str], lengths: Sequence[int], seeds: Sequence[int],
                      sampling: Sampling | None = None) -> list[Tensor]:
    """Features [(lengths[i], D)] in their units for texts[i], of the columns that the model makes.

    ValueError for a length it cannot make, and for settings of diffusion asked of a model without; NotFiniteError.
    """
    sampling = sampling or Sampling()
    if isinstance(networks, TMR):
        for name in ("guidance_scale", "sampler", "num_steps", "smoothing", "eta", "order"):
            if getattr(sampling, name) != getattr(Sampling, name):
                raise ValueError(f"{name}: this model (TEMOS or TMR) makes a motion in one step, without diffusion, and does "
                                 f"not take it")
        made = networks.eval().generate(texts, list(map(int, lengths)), seeds, batch_size=sampling.batch_size)
    else:
        made = lsremgm_generate.generate_features(networks, texts, lengths, seeds, sampling)
    _require_finite((bool(features.isfinite().all()) for features in made), networks, texts, sampling)
    return made


def generate(networks: TextToMotion, texts: Sequence[str], lengths: Sequence[int], seeds: Sequence[int],
             sampling: Sampling | None = None) -> list[Motion]:
    """A Motion of lengths[i] frames for texts[i], its joints (1, T, J, 3) in metres. ValueError as `generate_features`."""
    sampling = sampling or Sampling()
    features = generate_features(networks, texts, lengths, seeds, sampling)
    motions = [networks.motion(rows, text) for rows, text in zip(features, texts, strict=True)]
    _require_finite((bool(np.isfinite(motion.joints).all()) for motion in motions), networks, texts, sampling)
    return motions


def _require_finite(finite: Iterator[bool], networks: TextToMotion, texts: Sequence[str], sampling: Sampling) -> None:
    """NotFiniteError, which names the likely causes, at the first motion that is not; so none is ever handed on or written."""
    for number, good in enumerate(finite):
        if good:
            continue
        causes = "its weights or its mean and std hold such values, or far too large ones"
        if not isinstance(networks, TMR):
            scale, own = lsremgm_generate.scale_of(networks, sampling), networks.config.guidance_scale
            causes = f"the guidance scale is too large ({scale:g}; the model's own is {own:g}), or {causes}"
        raise NotFiniteError(f"the motion for {texts[number]!r} came out with NaN or infinite values: {causes}")
