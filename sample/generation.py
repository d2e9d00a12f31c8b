"""Motions of requests: the one way to a model that answers them in batches, joints checked. Loads without torch."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.capabilities import OWN, Decoding, Generates, Precision, Request
from sample.prompts import PromptError, clean_prompt, fit_frames, frames_of
from sample.settings import STARTER

if TYPE_CHECKING:
    from torch import Tensor

    from data_loaders.corpus import Motion

NOT_FINITE = "its weights or its mean and std (stats.npz) hold such values, or far too large ones"


class NotFiniteError(ValueError):
    """A motion came out with NaN or infinite values."""


def load(model_path: Path | str = STARTER, device: str = "auto", precision: Precision = "fp32") -> Generates:
    """The model of a checkpoint, ready to sample. Raises FileNotFoundError or ValueError saying what is wrong."""
    from model.checkpoints import from_pretrained
    from model.precision import in_numbers
    from model.registry import able
    from protos.processes import pick_device

    return in_numbers(from_pretrained(Path(model_path), device=pick_device(device), systems=able(Generates)), precision)


def features_for(
    model: Generates, requests: Sequence[Request], decoding: Decoding = OWN, progress: bool = True
) -> "list[Tensor]":
    """Features [(frames, D)] in their units on the CPU, in the order of the requests, of the columns that the model makes.

    Made in batches of like length; each motion depends on its own request alone. ValueError for what the model cannot take,
    NotFiniteError.
    """
    made = in_batches(lambda some: model.generate(some, decoding), requests, decoding.batch_size, progress)
    require_finite((bool(features.isfinite().all()) for features in made), model, requests, decoding)
    return made


def in_batches(
    make: "Callable[[Sequence[Request]], Sequence[Tensor]]", requests: Sequence[Request], size: int, progress: bool = True
) -> "list[Tensor]":
    """make(requests) of all, in their order, on the CPU; asked for at most `size` of like length at once."""
    from tqdm import tqdm

    order = sorted(range(len(requests)), key=lambda i: requests[i].frames)
    made: list[Tensor] = [None] * len(order)
    silent = None if progress and len(order) > size else True  # None: unless somebody watches
    with tqdm(total=len(order), desc="generating", unit="motion", leave=False, disable=silent) as bar:
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            for i, features in zip(rows, make([requests[i] for i in rows]), strict=True):
                made[i] = features.cpu()
            bar.update(len(rows))
    return made


def motions_for(model: Generates, requests: Sequence[Request], decoding: Decoding = OWN, progress: bool = True) -> "list[Motion]":
    """A Motion for each request: joints (P, frames, J, 3) in metres. ValueError as `features_for`."""
    import numpy as np

    from data_loaders.motion_files import motion_of

    made = features_for(model, requests, decoding, progress)
    captions = [(each.text,) if isinstance(each.text, str) else tuple(each.text) for each in requests]
    motions = [motion_of(rows, model.features, words) for rows, words in zip(made, captions, strict=True)]
    require_finite((bool(np.isfinite(motion.joints).all()) for motion in motions), model, requests, decoding)
    return motions


def require_finite(finite: Iterable[bool], model: Generates, requests: Sequence[Request], decoding: Decoding) -> None:
    """NotFiniteError, which names the likely causes, at the first motion that is not; so none is ever handed on or written."""
    for good, request in zip(finite, requests, strict=True):
        if not good:
            own = model.config.own_guidance
            scale = decoding.guidance_scale if isinstance(decoding.guidance_scale, (int, float)) else own
            why = "" if own is None else f"the guidance scale is too large ({scale:g}; the model's own is {own:g}), or "
            raise NotFiniteError(f"the motion for {request.text!r} came out with NaN or infinite values: {why}{NOT_FINITE}")


def generate(prompts: Sequence[str], lengths: Sequence[int] | None = None, model: Generates | Path | str = STARTER,
             seeds: Sequence[int] | None = None, device: str = "auto", **decoding: Any) -> "list[Motion]":
    """One motion per prompt: joints (1, T, 22, 3) in metres, Y up. The Python way in.

    `lengths` in frames (default: 6 s), `seeds` one per motion (default: 0, 1, 2, ...); a motion depends on its own prompt,
    length and seed, not on its neighbours. `model`: a checkpoint folder, or what `load` returned. `decoding`: settings of
    `Decoding`. Raises PromptError.
    """
    model = load(model, device) if isinstance(model, (str, Path)) else model
    fps, longest = model.features.fps, model.config.max_frames
    lengths = [frames_of(6.0, fps, longest)] * len(prompts) if lengths is None else lengths
    seeds = range(len(prompts)) if seeds is None else seeds
    if not len(prompts) == len(lengths) == len(seeds):
        raise PromptError(f"{len(prompts)} prompts, {len(lengths)} lengths, {len(seeds)} seeds: expected one of each per motion")
    rows = zip(prompts, lengths, seeds)
    requests = [Request(clean_prompt(text), fit_frames(int(frames), fps, longest), seed) for text, frames, seed in rows]
    return motions_for(model, requests, Decoding(**decoding))
