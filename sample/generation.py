"""Motions from what is asked for: the one way to a model that makes them, in batches, checked, as joints. Loads without torch."""

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from model.capabilities import OWN, Decoding, Generates, Request
from model.run_folder import checkpoint_in

if TYPE_CHECKING:
    from torch import Tensor

    from data_loaders.corpus import Motion

log = logging.getLogger(__name__)
STARTER, TMR = (Path(__file__).resolve().parents[1] / "checkpoints" / name for name in ("starter", "tmr"))  # come with the code
PROMPTS_FILE = "prompts.txt"
NOT_FINITE = "its weights or its mean and std hold such values, or far too large ones"


class NotFiniteError(ValueError):
    """A motion came out with NaN or infinite values."""


def load(model_path: Path | str = STARTER, device: str = "auto") -> Generates:
    """The model of a checkpoint, ready to sample. Raises FileNotFoundError or ValueError saying what is wrong."""
    from model.pretrained import from_pretrained
    from model.registry import able
    from protos.processes import pick_device

    return from_pretrained(Path(model_path), device=pick_device(device), systems=able(Generates))


def features_for(
    model: Generates, requests: Sequence[Request], decoding: Decoding = OWN, progress: bool = True
) -> "list[Tensor]":
    """Features [(frames, D)] in their units on the CPU, in the order of the requests, of the columns that the model makes.

    Made in batches of like length; each motion depends on its own request alone. ValueError for what the model cannot take,
    NotFiniteError.
    """
    from tqdm import tqdm

    order = sorted(range(len(requests)), key=lambda i: requests[i].frames)
    made: list[Tensor] = [None] * len(order)
    size = decoding.batch_size
    silent = None if progress and len(order) > size else True  # None: unless somebody watches
    with tqdm(total=len(order), desc="generating", unit="motion", leave=False, disable=silent) as bar:
        for start in range(0, len(order), size):
            rows = order[start : start + size]
            for i, features in zip(rows, model.generate([requests[i] for i in rows], decoding), strict=True):
                made[i] = features.cpu()
            bar.update(len(rows))
    _require_finite((bool(features.isfinite().all()) for features in made), model, requests, decoding)
    return made


def motions_for(model: Generates, requests: Sequence[Request], decoding: Decoding = OWN, progress: bool = True) -> "list[Motion]":
    """A Motion for each request: joints (1, frames, J, 3) in metres. ValueError as `features_for`."""
    import numpy as np

    from data_loaders.motion_files import motion_of

    made = features_for(model, requests, decoding, progress)
    captions = [(each.text,) if isinstance(each.text, str) else tuple(each.text) for each in requests]
    motions = [motion_of(rows, model.config.motion_features, words) for rows, words in zip(made, captions, strict=True)]
    _require_finite((bool(np.isfinite(motion.joints).all()) for motion in motions), model, requests, decoding)
    return motions


def _require_finite(finite: Iterable[bool], model: Generates, requests: Sequence[Request], decoding: Decoding) -> None:
    """NotFiniteError, which names the likely causes, at the first motion that is not; so none is ever handed on or written."""
    for good, request in zip(finite, requests, strict=True):
        if not good:
            own = model.config.own_guidance
            scale = own if decoding.guidance_scale is None else decoding.guidance_scale
            why = "" if own is None else f"the guidance scale is too large ({scale:g}; the model's own is {own:g}), or "
            raise NotFiniteError(f"the motion for {request.text!r} came out with NaN or infinite values: {why}{NOT_FINITE}")


def generate(prompts: Sequence[str], lengths: Sequence[int] | None = None, model: Generates | Path | str = STARTER,
             seeds: Sequence[int] | None = None, device: str = "auto", **decoding: Any) -> "list[Motion]":
    """One motion per prompt: joints (1, T, 22, 3) in metres, Y up. The Python way in.

    `lengths` in frames (default: 6 s), `seeds` one per motion (default: 0, 1, 2, ...); a motion depends on its own prompt,
    length and seed, not on its neighbours. `model`: a checkpoint folder, or what `load` returned. `decoding`: settings of
    `Decoding`. Raises PromptError.
    """
    from sample.prompts import PromptError, clean_prompt, fit_frames, frames_of

    model = load(model, device) if isinstance(model, (str, Path)) else model
    fps, longest = model.config.fps, model.config.max_frames
    lengths = [frames_of(6.0, fps, longest)] * len(prompts) if lengths is None else lengths
    seeds = range(len(prompts)) if seeds is None else seeds
    if not len(prompts) == len(lengths) == len(seeds):
        raise PromptError(f"{len(prompts)} prompts, {len(lengths)} lengths, {len(seeds)} seeds: expected one of each per motion")
    rows = zip(prompts, lengths, seeds)
    requests = [Request(clean_prompt(text), fit_frames(int(frames), fps, longest), seed) for text, frames, seed in rows]
    return motions_for(model, requests, Decoding(**decoding))


def requests_for(
    model: Generates,
    model_path: Path = STARTER,
    text_prompt: str | None = None,
    input_text: Path | None = None,
    dataset: str | None = None,
    seconds: float = 6.0,
    num_samples: int | None = None,
) -> list[Request]:
    """What to make, with lengths in frames: one prompt, a file of prompts, the captions of a test split, or where nothing is
    given the checkpoint's own prompts. Says so where the model reads none. PromptError where there is no prompt."""
    from sample.prompts import clean_prompt, frames_of, read_prompt_file

    config = model.config
    if (text_prompt is not None or input_text is not None) and not config.reads_text:
        log.warning("this model reads no text: it was trained without, so the prompt changes nothing but the files' names")
    frames = frames_of(seconds, config.fps, config.max_frames)
    if text_prompt is not None:
        return [Request(clean_prompt(text_prompt), frames)] * (num_samples or 1)
    if input_text is None and dataset is None:
        checkpoint = checkpoint_in(model_path)
        own = (checkpoint if checkpoint.is_dir() else checkpoint.parent) / PROMPTS_FILE
        if own.is_file():
            log.info("no prompt given: using %s", own)
            input_text = own
    if input_text is None:
        return _test_split(model, model_path, dataset or config.dataset, num_samples or 10)
    requests = read_prompt_file(input_text, frames, config.fps, config.max_frames)
    return [requests[i % len(requests)] for i in range(num_samples or len(requests))]


def _test_split(model: Generates, model_path: Path, dataset: str, count: int) -> list[Request]:
    """First captions and lengths of clips from all over a test split."""
    from data_loaders.corpus import Corpus
    from sample.prompts import PromptError, fit_frames

    config = model.config
    corpus = Corpus.open(dataset)
    config.motion_features.require(
        corpus.features, f"the checkpoint {model_path}", f"the dataset {corpus.folder}"
    )
    split = corpus.split("test")
    clips = [clip for clip in split if corpus.captions(clip)]
    if not clips:
        lack = "has no captions" if split else "is empty"
        raise PromptError(
            f"the test split of {corpus.folder} {lack}: no prompt to take from it (give --text_prompt or --input_text)"
        )
    return [
        Request(corpus.captions(i)[0].text, fit_frames(int(corpus.lengths[i]), config.fps, config.max_frames))
        for i in clips[:: max(1, len(clips) // count)]
    ][:count]


def write_motions(folder: Path, motions: "Sequence[Motion]", num_samples: int, video: bool, gif: bool, html: bool) -> None:
    """Everything a sampling run leaves behind: its results, and each motion as joints/prompt##_rep##.npy.

    `motions` in the order of the rows. video: prompt##_rep##.mp4, prompt##.mp4 with the repetitions side by side, prompt##.png
    as a strip; gif: prompt##_rep##.gif beside them; html: prompt##.html, a page to turn and to step through.
    """
    from tqdm import tqdm

    from data_loaders.motion_files import write_joints, write_results
    from visualize.video import write_gif, write_strip, write_video
    from visualize.web_viewer import write_viewer

    write_results(folder, motions, num_samples)
    names = [f"prompt{row % num_samples:02d}_rep{row // num_samples:02d}" for row in range(len(motions))]
    for name, motion in zip(names, motions, strict=True):
        write_joints(folder / "joints" / f"{name}.npy", motion)
    if video:
        bar = tqdm(motions, desc="videos", unit="video", disable=None if len(motions) > 4 else True)
        for name, motion in zip(names, bar):
            write_video(folder / f"{name}.mp4", [motion])
            if gif:
                write_gif(folder / f"{name}.gif", [motion])
    for sample in range(num_samples):
        path, row = folder / f"prompt{sample:02d}", motions[sample::num_samples]
        if video:
            if len(row) > 1:
                write_video(path.with_suffix(".mp4"), row)
            write_strip(path.with_suffix(".png"), row[0])
        if html:
            labels = [f"rep{repetition:02d}" for repetition in range(len(row))] if len(row) > 1 else None
            write_viewer(path.with_suffix(".html"), row, labels=labels)
