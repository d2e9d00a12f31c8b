"""Prompts of files and datasets: texts with their lengths, which may be estimated. Loads without torch."""

import logging
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from model.capabilities import Generates, Request
from model.registry import checkpoint_in
from protos.files import shown
from protos.reading import read_lines
from sample.generation import STARTER, PromptError, clean_prompt, fit_frames, warn_unread

log = logging.getLogger(__name__)
PROMPTS_FILE = "prompts.txt"
LARGEST_FILE = 64 << 20  # bytes of a file of prompts


def read_prompt_file(path: Path, default_frames: int, fps: float, longest: int) -> list[Request]:
    """One prompt per line, `text`, `text#frames`, or `text#NA`, of which the length, here 0, is to be estimated; blank lines are
    left out.

    Raises PromptError (or FileError) naming file and line, FileNotFoundError where there is no file.
    """
    requests, bare = [], []
    for number, line in _lines(path):
        text, mark, count = line.rpartition("#")
        if not mark:
            text, frames = line, default_frames
            bare.append(number)
        elif re.fullmatch(r"\s*[1-9][0-9]{0,8}\s*", count):
            frames = fit_frames(int(count), fps, longest)
        elif count.strip().upper() == "NA":
            frames = 0
        else:
            raise PromptError(f"{path}, line {number}: after '#' a number of frames or NA is expected, not "
                              f"{shown(count.strip(), 24)}")  # fmt: skip
        requests.append(Request(_prompt_of(text, path, number), frames))
    if not requests:
        raise PromptError(f"{path}: holds no prompt; write one per line, for example 'a person bows#60'")
    if 0 < len(bare) < len(requests):
        log.warning("%s: line %d%s says no length behind a '#', as others do: taking the default", path, bare[0],
                    f", and {len(bare) - 1} more," if len(bare) > 1 else "")  # fmt: skip
    return requests


def read_texts(path: Path) -> list[str]:
    """The texts of a file, one a line. PromptError naming file and line, FileNotFoundError where there is no file."""
    texts = [_prompt_of(line, path, number) for number, line in _lines(path)]
    if not texts:
        raise PromptError(f"{path}: holds no text; write one per line, for example 'a person bows'")
    return texts


def _prompt_of(text: str, path: Path, number: int) -> str:
    try:
        return clean_prompt(text)
    except PromptError as error:
        raise PromptError(f"{path}, line {number}: {error}") from None


def _lines(path: Path) -> list[tuple[int, str]]:
    """The lines that are not blank, with their numbers from 1."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file (--input_text)")
    if path.is_dir():
        raise PromptError(f"{path}: is a folder, expected a text file (--input_text)")
    return [(number, line) for number, line in enumerate(read_lines(path, LARGEST_FILE), 1) if line.strip()]


def requests_for(
    model: Generates,
    model_path: Path = STARTER,
    input_text: Path | None = None,
    dataset: str | None = None,
    frames: int = 120,
    num_samples: int | None = None,
    length_estimator: Path | None = None,
) -> list[Request]:
    """What to make, with lengths in frames, by default so many: a file of prompts, the captions of a test split, or where neither
    is given the checkpoint's own prompts. Says so where the model reads none. PromptError where there is no prompt."""
    config = model.config
    if input_text is not None:
        warn_unread(model)
    elif dataset is None:
        checkpoint = checkpoint_in(model_path)
        own = (checkpoint if checkpoint.is_dir() else checkpoint.parent) / PROMPTS_FILE
        if own.is_file():
            log.info("no prompt given: using %s", own)
            input_text = own
    if input_text is None:
        return _test_split(model, model_path, dataset or config.dataset, num_samples or 10)
    prompts = read_prompt_file(input_text, frames, model.features.fps, config.max_frames)
    requests = with_lengths(prompts, model, length_estimator, input_text)
    return [requests[i % len(requests)] for i in range(num_samples or len(requests))]


def with_lengths(requests: Sequence[Request], model: Generates, estimator: Path | None, file: Path) -> list[Request]:
    """Requests whose length is 0 with those that an estimator draws by their place. PromptError where there is none."""
    unknown = [i for i, request in enumerate(requests) if not request.frames]
    if not unknown:
        return list(requests)
    if estimator is None:
        raise PromptError(f"{file}: '#NA' asks for a length to be estimated: give a --length_estimator, which "
                          "train.train_length_estimator makes")  # fmt: skip
    from model.length_estimators import open_length_estimator

    estimate = open_length_estimator(estimator, model.features).estimate([requests[i].text for i in unknown], unknown)
    fps, longest, found = model.features.fps, model.config.max_frames, list(requests)
    for i, frames in zip(unknown, estimate, strict=True):
        found[i] = replace(requests[i], frames=fit_frames(frames, fps, longest))
    return found


def _test_split(model: Generates, model_path: Path, dataset: str, count: int) -> list[Request]:
    """First captions and lengths of clips from all over a test split."""
    from data_loaders.corpus import Corpus

    config = model.config
    corpus = Corpus.open(dataset)
    model.features.require(corpus.features, f"the checkpoint {model_path}", f"the dataset {corpus.folder}")
    split = corpus.split("test")
    clips = [clip for clip in split if corpus.captions(clip)]
    if not clips:
        lack = "has no captions" if split else "is empty"
        raise PromptError(
            f"the test split of {corpus.folder} {lack}: no prompt to take from it (give --text_prompt or --input_text)"
        )
    return [
        Request(corpus.captions(i)[0].text, fit_frames(int(corpus.lengths[i]), config.features.fps, config.max_frames))
        for i in clips[:: max(1, len(clips) // count)]
    ][:count]
