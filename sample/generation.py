"""Motions from what is asked for: prompts and lengths checked, the one way to a model that answers requests in batches, joints
checked, files. Loads without torch.
"""

import logging
import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from model.capabilities import AS_MADE, OWN, Cleanup, Decoding, Generates, Precision, Request
from model.registry import CHECKPOINTS, checkpoint_in
from protos.files import file_name, run_folder
from protos.flags import GUIDANCE, SAMPLING_STEPS, SHARE, Range
from protos.options import one_line
from protos.randomness import derive_seed
from protos.reading import FileError
from sample.exports import RunSettings, require_writable, row_names, write_motions, write_views

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from data_loaders.corpus import Motion

log = logging.getLogger(__name__)
STARTER, TMR, IN2IN, REACTION, CAPTIONER, PGR2M = (
    CHECKPOINTS / name for name in ("starter", "tmr", "in2in", "reaction", "lamp/captioner", "pgr2m")
)
LONGEST_PROMPT = 10_000  # characters; text encoders read the first few hundred
MOST_FRAMES = 5_000_000  # of all motions of one run: about 70 hours, 6 GB in memory
MOST_LINES, LONGEST_SHOWN = 5, 80  # of prompts beyond what weights know, and of one of them in characters
NOT_FINITE = "its weights or its mean and std (stats.npz) hold such values, or far too large ones"


class PromptError(FileError):
    """A prompt or a length that no motion can be made from."""


class NotFiniteError(ValueError):
    """A motion came out with NaN or infinite values, or kilometres away."""


@dataclass(frozen=True, kw_only=True)
class GuidanceSettings:
    """How a model makes motions."""

    guidance_scale: Annotated[float, GUIDANCE] | None = None
    """Strength of classifier-free guidance (default: the checkpoint's; 1 follows the text without guidance)."""
    sampler: Literal["ddpm", "ddim", "plms", "dpmpp", "consistency"] | None = None
    """How the diffusion is run backwards (default: the checkpoint's)."""


@dataclass(frozen=True, kw_only=True)
class DecodingSettings(GuidanceSettings):
    """In how many steps it makes them."""

    sampling_steps: Annotated[int, SAMPLING_STEPS] | None = None
    """Denoising steps, or those in which tokens are filled in (default: the checkpoint's)."""
    temperature: Annotated[float, Range(0, 100)] | None = None
    """Of models that decode tokens: temperature at which they are drawn; 0: the likeliest (default: the checkpoint's)."""
    top_k: Annotated[float, SHARE] | None = None
    """Of these: share of the codes, the unlikeliest, that are never drawn (default: the checkpoint's)."""

    def decoding(self, batch_size: int) -> Decoding:
        """The same for the model, which makes so many motions at once."""
        return Decoding(self.guidance_scale, self.sampler, self.sampling_steps, temperature=self.temperature, top_k=self.top_k,
                        batch_size=batch_size)  # fmt: skip


def load(model_path: Path | str = STARTER, device: str = "auto", precision: Precision = "fp32") -> Generates:
    """The model of a checkpoint, ready to sample. Raises FileNotFoundError or ValueError saying what is wrong."""
    from model.checkpoints import from_pretrained
    from model.registry import able
    from protos.processes import pick_device

    model = from_pretrained(Path(model_path), device=pick_device(device), systems=able(Generates))
    if precision == "fp32":
        return model
    from model.precision import in_numbers

    return in_numbers(model, precision)


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


def motions_for(model: Generates, requests: Sequence[Request], decoding: Decoding = OWN, progress: bool = True,
                cleanup: Cleanup | None = None) -> "list[Motion]":  # fmt: skip
    """A Motion for each request: joints (P, frames, J, 3) in metres. cleanup: what is done to them at last (default: what the
    checkpoint says). ValueError as `features_for`."""
    import numpy as np

    from data_loaders.motion_files import motion_of

    made = features_for(model, requests, decoding, progress)
    captions = [(each.text,) if isinstance(each.text, str) else tuple(each.text) for each in requests]
    motions = [motion_of(rows, model.features, words) for rows, words in zip(made, captions, strict=True)]
    require_finite((bool(np.isfinite(motion.joints).all()) for motion in motions), model, requests, decoding)
    cleanup = model.cleanup if cleanup is None else cleanup
    if cleanup == AS_MADE:
        return motions
    from visualize.cleanup import cleaned

    return [cleaned(motion, cleanup) for motion in motions]


def require_finite(finite: Iterable[bool], model: Generates | None, requests: Sequence[Request], decoding: Decoding) -> None:
    """NotFiniteError, which names the likely causes, at the first motion that is not; so none is ever handed on or written."""
    for good, request in zip(finite, requests, strict=True):
        if not good:
            own = model.config.own_guidance if model else None
            scale = decoding.guidance_scale if isinstance(decoding.guidance_scale, (int, float)) else own
            why = "" if own is None else f"the guidance scale is too large ({scale:g}; the model's own is {own:g}), or "
            raise NotFiniteError(f"the motion for {request.text!r} came out with NaN or infinite values, or kilometres away: "
                                 f"{why}{NOT_FINITE}")  # fmt: skip


def _fits(joints: "np.ndarray") -> bool:
    """Whether all of joints are numbers, and near enough to be read back."""
    import numpy as np

    from data_loaders.mocap import FARTHEST

    return bool(np.abs(joints).max() <= FARTHEST)  # NaN is not


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


# -------------------------------------------------------------------------------------------------------- what is asked


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


def asked_frames(model: Generates, seconds: float, frames: int | None = None) -> int:
    """The frames of a length in seconds, or so many, as far as the model makes them. PromptError for nonsense."""
    fps, longest = model.features.fps, model.config.max_frames
    return frames_of(seconds, fps, longest) if frames is None else fit_frames(frames, fps, longest)


def requests_of(model: Generates, prompt: str, frames: int, count: int = 1) -> list[Request]:
    """So many requests of one prompt. Says so where the model reads none. PromptError where there is no prompt."""
    warn_unread(model)
    return [Request(clean_prompt(prompt), frames)] * count


def warn_unread(model: Generates) -> None:
    """Says so where a model reads no text."""
    if not model.config.reads_text:
        log.warning("this model reads no text: it was trained without, so the prompt changes nothing but the files' names")


def require_total(lengths: Iterable[int], repetitions: int) -> None:
    """PromptError where a run would make more frames than can be held in memory: before the first is made."""
    count = frames = 0
    for length in lengths:
        count, frames = count + repetitions, frames + length * repetitions
    if frames > MOST_FRAMES:
        raise PromptError(f"{count:,} motions of together {frames:,} frames, one run makes at most {MOST_FRAMES:,}: "
                          "ask for fewer samples or repetitions, and for the rest with another --seed")  # fmt: skip


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


# ------------------------------------------------------------------------------------------------------- what is written


def write_run(model: Generates, requests: Sequence[Request], settings: RunSettings, decoding: Decoding, checkpoint: Path,
              what: str, cleanup: Cleanup | None = None) -> Path:  # fmt: skip
    """Makes the requests as the settings say and writes everything, as `write_made`. cleanup: as `motions_for` takes it."""
    skeleton = model.features.skeleton
    return write_made(lambda rows: motions_for(model, rows, decoding, cleanup=cleanup), requests, settings, checkpoint, what,
                      skeleton)  # fmt: skip


def write_made(
    make: "Callable[[Sequence[Request]], Sequence[Motion]]", requests: Sequence[Request], settings: RunSettings, checkpoint: Path,
    what: str, skeleton: str, reaction: bool = False,
) -> Path:  # fmt: skip
    """Writes the motions of a skeleton that `make` makes of the requests, with seeds and repetitions as the settings say, into a
    folder named after the checkpoint and after `what` is made. A run that fails leaves no folder, but for one whose motions are
    all written: it keeps them. reaction: as `write_motions` takes it."""
    require_writable(settings, skeleton)
    name = file_name(checkpoint.name if checkpoint.is_dir() else checkpoint.parent.name)
    rows = [replace(request, seed=derive_seed(settings.seed, "sample", sample, repetition))
            for repetition in range(settings.num_repetitions) for sample, request in enumerate(requests)]  # fmt: skip
    with run_folder(settings.output_dir or Path("outputs") / f"{name}_{file_name(what)}_seed{settings.seed}") as folder:
        try:
            motions = make(rows)
            require_finite((_fits(motion.joints) for motion in motions), None, rows, OWN)
        except NotFiniteError as error:
            raise NotFiniteError(f"{checkpoint}: {error}") from None
        write_motions(folder, motions, len(requests), reaction)
    try:
        write_views(folder, motions, len(requests), settings)
    except OSError as error:
        raise OSError(f"{one_line(error)}; the motions themselves are whole: python -m visualize.render {folder / 'motions.npz'} "
                      "shows them") from error  # fmt: skip
    if settings.report:
        from data_loaders.physics import sample_table

        print(sample_table(dict(zip(row_names(len(motions), len(requests)), motions, strict=True))))
    log.info("%d motions in %s", len(motions), folder)
    return folder
