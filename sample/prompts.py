"""What the user asks for: prompts and lengths from the command line, a file or a checkpoint, checked and made regular."""

import logging
import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from model.capabilities import Request
from protos.names import shown
from protos.reading import FileError, read_lines

log = logging.getLogger(__name__)
LONGEST_NAME = 48
LONGEST_PROMPT = 10_000  # characters; text encoders read the first few hundred
LARGEST_FILE = 64 << 20  # bytes of a file of prompts
MOST_FRAMES = 5_000_000  # of all motions of one run: about 70 hours, 6 GB in memory


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
    return fit_frames(frames, fps, longest, shortest)


def fit_frames(frames: int, fps: float, longest: int, shortest: int = 4) -> int:
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
    """One prompt per line, `text` or `text#frames`; blank lines are left out.

    Raises PromptError (or FileError) naming file and line, FileNotFoundError where there is no file.
    """
    requests = []
    for number, line in _lines(path):
        text, mark, count = line.rpartition("#")
        if not mark:
            text, frames = line, default_frames
        elif re.fullmatch(r"\s*[1-9][0-9]{0,8}\s*", count):
            frames = fit_frames(int(count), fps, longest)
        else:
            raise PromptError(f"{path}, line {number}: after '#' a number of frames is expected, not {shown(count.strip(), 24)}")
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


def file_name(text: str, longest: int = LONGEST_NAME) -> str:
    """A safe file name of a prompt: lower-case words joined by '-', never a path."""
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    words = re.findall(r"[a-z0-9]+", plain)
    name = ""
    for word in words:
        if name and len(name) + 1 + len(word) > longest:
            break
        name = f"{name}-{word[:longest]}" if name else word[:longest]
    return name or "prompt"


def new_folder(wanted: Path) -> Path:
    """Makes and returns `wanted`, or `wanted_2`, `wanted_3`, ... where it exists: nothing is ever overwritten.

    Raises NotADirectoryError when a part of the path is a file, OSError when it cannot be made.
    """
    for parent in wanted.parents:
        if parent.exists() and not parent.is_dir():
            raise NotADirectoryError(f"{wanted}: {parent} is a file, not a folder; give another --output_dir")
    folder, number = wanted, 1
    while True:
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
            folder = wanted.with_name(f"{wanted.name}_{number}")
        else:
            if number > 1:
                log.info("%s exists: writing to %s", wanted, folder)
            return folder


def default_folder(checkpoint: str, requests: Sequence[Request], seed: int, prompt_file: Path | None = None) -> Path:
    """outputs/<checkpoint>_<prompt or prompt file>_seed<seed>."""
    if prompt_file is not None:
        name = file_name(prompt_file.stem)
    else:
        name = file_name(requests[0].text) if len({r.text for r in requests}) == 1 else f"{len(requests)}-prompts"
    return Path("outputs") / f"{file_name(checkpoint)}_{name}_seed{seed}"
