"""Text to motion by whichever system a checkpoint holds: LS-ReMGM by diffusion, TEMOS and TMR by decoding a text's latent."""

from collections.abc import Sequence

from torch import Tensor

from data_loaders.corpus import Motion
from model import lsremgm_generate
from model.lsremgm_generate import Sampling
from model.lsremgm_system import LSReMGM
from model.tmr import TMR

SYSTEMS = ("lsremgm", "tmr")  # names in model.pretrained

TextToMotion = LSReMGM | TMR


def reads_text(networks: TextToMotion) -> bool:
    return isinstance(networks, TMR) or networks.config.condition == "text"


def columns(networks: TextToMotion) -> list[int] | slice:
    """The feature columns that a model makes."""
    return slice(None) if isinstance(networks, TMR) else networks.columns()


def generate_features(networks: TextToMotion, texts: Sequence[str], lengths: Sequence[int], seeds: Sequence[int],
                      sampling: Sampling | None = None) -> list[Tensor]:
    """Features [(lengths[i], D)] in their units for texts[i], of the columns that the model makes.

    ValueError for a length it cannot make, and for settings of diffusion asked of a model without.
    """
    sampling = sampling or Sampling()
    if not isinstance(networks, TMR):
        return lsremgm_generate.generate_features(networks, texts, lengths, seeds, sampling)
    for name in ("guidance_scale", "sampler", "num_steps"):
        if getattr(sampling, name) is not None:
            raise ValueError(f"--{name}: this model (TEMOS or TMR) makes a motion in one step, without diffusion")
    return networks.eval().generate(texts, list(map(int, lengths)), seeds, batch_size=sampling.batch_size)


def generate(networks: TextToMotion, texts: Sequence[str], lengths: Sequence[int], seeds: Sequence[int],
             sampling: Sampling | None = None) -> list[Motion]:
    """A Motion of lengths[i] frames for texts[i], its joints (1, T, J, 3) in metres."""
    if not isinstance(networks, TMR):
        return lsremgm_generate.generate(networks, texts, lengths, seeds, **vars(sampling or Sampling()))
    features = generate_features(networks, texts, lengths, seeds, sampling)
    return [networks.motion(rows, text) for rows, text in zip(features, texts, strict=True)]
