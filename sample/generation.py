"""Motions from text: what is asked for, and the model that makes it. Loads without torch."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from model.run_folder import checkpoint_in

if TYPE_CHECKING:
    from torch import nn

    from data_loaders.corpus import Motion
    from sample.prompts import Request

log = logging.getLogger(__name__)
STARTER, TMR = (Path(__file__).resolve().parents[1] / "checkpoints" / name for name in ("starter", "tmr"))  # come with the code
PROMPTS_FILE = "prompts.txt"


def load(model_path: Path | str = STARTER, device: str = "auto") -> "nn.Module":
    """The model of a checkpoint, ready to sample. Raises FileNotFoundError or ValueError saying what is wrong."""
    from model.capabilities import Generates
    from model.pretrained import from_pretrained
    from model.registry import able
    from protos.processes import pick_device

    return from_pretrained(Path(model_path), device=pick_device(device), systems=able(Generates))


def generate(
    prompts: Sequence[str],
    lengths: Sequence[int] | None = None,
    model: "nn.Module | Path | str" = STARTER,
    seeds: Sequence[int] | None = None,
    guidance_scale: float | None = None,
    sampler: str | None = None,
    num_steps: int | None = None,
    batch_size: int = 64,
    device: str = "auto",
) -> "list[Motion]":
    """One motion per prompt: joints (1, T, 22, 3) in metres, Y up. The Python way in.

    `lengths` in frames (default: 6 s), `seeds` one per motion (default: 0, 1, 2, ...); a motion depends on its own prompt,
    length and seed, not on its neighbours. `model`: a checkpoint folder, or what `load` returned. Raises PromptError.
    """
    from tqdm import tqdm

    from model.capabilities import Sampling
    from model.generation import generate as generate_batch
    from sample.prompts import PromptError, clean_prompt, fit_frames, frames_of

    if isinstance(model, (str, Path)):
        model = load(model, device)
    config = model.config
    lengths = [frames_of(6.0, config.fps, config.max_frames)] * len(prompts) if lengths is None else lengths
    seeds = range(len(prompts)) if seeds is None else seeds
    if not len(prompts) == len(lengths) == len(seeds):
        raise PromptError(f"{len(prompts)} prompts, {len(lengths)} lengths, {len(seeds)} seeds: expected one of each per motion")
    texts = [clean_prompt(text) for text in prompts]
    lengths = [fit_frames(int(frames), config.fps, config.max_frames) for frames in lengths]
    sampling = Sampling(guidance_scale, sampler, num_steps, batch_size=batch_size)
    motions: list[Motion] = []
    starts = range(0, len(texts), batch_size)
    for start in tqdm(starts, desc="sampling", unit="batch", disable=None if len(starts) > 1 else True):
        part = slice(start, start + batch_size)
        motions += generate_batch(model, texts[part], list(lengths[part]), list(seeds[part]), sampling)
    return motions


def requests_for(
    model: "nn.Module",
    model_path: Path = STARTER,
    text_prompt: str | None = None,
    input_text: Path | None = None,
    dataset: str | None = None,
    seconds: float = 6.0,
    num_samples: int | None = None,
) -> "list[Request]":
    """What to make, with lengths in frames: one prompt, a file of prompts, the captions of a test split, or where nothing is
    given the checkpoint's own prompts. Says so where the model reads none. PromptError where there is no prompt."""
    from sample.prompts import Request, clean_prompt, frames_of, read_prompt_file

    config = model.config
    if (text_prompt is not None or input_text is not None) and not model.reads_text() and config.condition == "none":
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


def _test_split(model: "nn.Module", model_path: Path, dataset: str, count: int) -> "list[Request]":
    """First captions and lengths of clips from all over a test split."""
    from data_loaders.corpus import Corpus, Representation
    from sample.prompts import PromptError, Request, fit_frames

    config = model.config
    corpus = Corpus.open(dataset)
    Representation(config.skeleton, config.fps, config.heading).require(
        corpus.representation, f"the checkpoint {model_path}", f"the dataset {corpus.folder}"
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
