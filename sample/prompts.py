"""What is asked for: prompts and lengths, checked, of the command line, of files or of a dataset, and how far they lie from what
weights know. Loads without torch.
"""

import logging
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from model.capabilities import Generates, Request
from model.registry import checkpoint_in
from protos.files import shown
from protos.reading import FileError, read_lines
from sample.settings import STARTER

log = logging.getLogger(__name__)
PROMPTS_FILE = "prompts.txt"
LONGEST_PROMPT = 10_000  # characters; text encoders read the first few hundred
LARGEST_FILE = 64 << 20  # bytes of a file of prompts
MOST_FRAMES = 5_000_000  # of all motions of one run: about 70 hours, 6 GB in memory
MOST_LINES, LONGEST_SHOWN = 5, 80  # of prompts beyond what weights know, and of one of them in characters


class PromptError(FileError):
    """A prompt or a length that no motion can be made from."""


def clean_prompt(text: str) -> str:
    """The prompt on one line without control characters. PromptError when nothing is left to read, or too much."""
    if len(text) > LONGEST_PROMPT:
        raise PromptError(f"the prompt has {len(text):,} characters, at most {LONGEST_PROMPT:,} are taken: shorten it")
    visible = "".join(c if c.isprintable() or c.isspace() else " " for c in unicodedata.normalize("NFC", text))
    cleaned = " ".join(visible.split())
    if not any(c.isalnum() for c in cleaned):
        raise PromptError("the prompt is empty: say what the person does, for example 'a person waves the right hand'")
    letters = [c for c in cleaned if c.isalpha()]
    if letters and sum(c.isascii() for c in letters) < 0.7 * len(letters):
        log.warning("the text encoder was trained on English; this prompt will be read poorly: %s", cleaned[:60])
    return cleaned


def frames_of(seconds: float, fps: float, longest: int, shortest: int = 4) -> int:
    """Frames of a length in seconds, cut (with a word) to what the model can make. PromptError for nonsense."""
    if not math.isfinite(seconds) or seconds <= 0:
        raise PromptError(f"--motion_length {seconds:g}: expected a number of seconds above 0, at most {longest / fps:g}")
    frames = int(min(seconds * fps, 1e9) + 1e-6)
    if frames > longest and 4 <= seconds <= longest and seconds == int(seconds):
        log.warning("--motion_length is in seconds: if %d frames were meant, give --motion_frames %d", seconds, seconds)
    return fit_frames(frames, fps, longest, shortest)


def fit_frames(frames: int, fps: float, longest: int, shortest: int = 4) -> int:
    """A number of frames, cut or lengthened (with a word) to what the model can make."""
    if frames > longest:
        log.warning("%.1f s is longer than this model makes: cut to %.1f s (%d frames)", frames / fps, longest / fps, longest)
        return longest
    if frames < shortest:
        log.warning("%d frames are shorter than this model makes: lengthened to %d frames", frames, shortest)
        return shortest
    return frames


def require_total(lengths: Iterable[int], repetitions: int) -> None:
    """PromptError where a run would make more frames than can be held in memory: before the first is made."""
    count = frames = 0
    for length in lengths:
        count, frames = count + repetitions, frames + length * repetitions
    if frames > MOST_FRAMES:
        raise PromptError(f"{count:,} motions of together {frames:,} frames, one run makes at most {MOST_FRAMES:,}: "
                          "ask for fewer samples or repetitions, and for the rest with another --seed")  # fmt: skip


def read_prompt_file(path: Path, default_frames: int, fps: float, longest: int) -> list[Request]:
    """One prompt per line, `text`, `text#frames`, or `text#NA`, of which the length, here 0, is to be estimated; blank lines are
    left out.

    Raises PromptError (or FileError) naming file and line, FileNotFoundError where there is no file.
    """
    requests = []
    for number, line in _lines(path):
        text, mark, count = line.rpartition("#")
        if not mark:
            text, frames = line, default_frames
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
    text_prompt: str | None = None,
    input_text: Path | None = None,
    dataset: str | None = None,
    seconds: float = 6.0,
    num_samples: int | None = None,
    frames: int | None = None,
    length_estimator: Path | None = None,
) -> list[Request]:
    """What to make, with lengths in frames: one prompt, a file of prompts, the captions of a test split, or where nothing is
    given the checkpoint's own prompts. Says so where the model reads none. PromptError where there is no prompt."""
    config = model.config
    if (text_prompt is not None or input_text is not None) and not config.reads_text:
        log.warning("this model reads no text: it was trained without, so the prompt changes nothing but the files' names")
    fps, longest = config.features.fps, config.max_frames
    frames = frames_of(seconds, fps, longest) if frames is None else fit_frames(frames, fps, longest)
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
    requests = with_lengths(read_prompt_file(input_text, frames, fps, longest), model, length_estimator, input_text)
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


def unknown_prompts(checkpoint: Path, prompts: Sequence[str], model: Generates) -> list[str]:
    """A line for each prompt that lies outside what a checkpoint's captions say, naming the nearest that they do.

    None where the checkpoint has no sketch of its captions; where that is damaged the log says so, and motions are made all
    the same.
    """
    from model.known_texts import KnownTexts

    try:
        sketch = KnownTexts.beside(checkpoint_in(checkpoint)) if model.config.reads_text else None
    except (FileError, OSError) as error:
        log.error("%s; prompts beyond these weights are not told", error)
        return []
    if sketch is None:
        return []
    distinct = list(dict.fromkeys(prompts))
    verdicts = zip(distinct, sketch.judge(distinct), strict=True)
    return [_line(prompt, verdict.part, verdict.nearest) for prompt, verdict in verdicts if verdict.outside]


def warn_unknown(lines: Sequence[str]) -> None:
    """The first lines as warnings, and how many more there are."""
    for line in lines[:MOST_LINES]:
        log.warning("%s", line)
    if len(lines) > MOST_LINES:
        log.warning("%d more prompts lie outside what these weights know", len(lines) - MOST_LINES)


def _line(prompt: str, part: str, nearest: Sequence[str]) -> str:
    known = f"; nearest to that they know: {'; '.join(nearest)}" if nearest else ""
    return f'"{_short(prompt)}" lies outside what these weights know (farthest: {_short(part)}){known}'


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 1]}…"
