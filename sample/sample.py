"""python -m sample.sample --text_prompt "a person waves the right hand": text to motion, as files and as videos."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from model.run_folder import checkpoint_in
from protos.bounds import SEED, Range
from protos.options import parse, run_command
from protos.processes import setup_logging

if TYPE_CHECKING:
    from torch import nn

    from data_loaders.corpus import Motion
    from sample.prompts import Request

log = logging.getLogger(__name__)
STARTER = Path(__file__).resolve().parents[1] / "checkpoints" / "starter"
PROMPTS_FILE = "prompts.txt"


@dataclass(frozen=True)
class SampleOptions:
    """Make motions from text. Without a prompt: the checkpoint's own prompts, or the captions of a test split."""

    text_prompt: str | None = None
    """What the person does, in English."""
    input_text: Path | None = None
    """File of prompts, one per line: `text` or `text#frames`."""
    dataset: str | None = None
    """Take prompts and lengths from the test split of this dataset (folder or known name)."""
    model_path: Path = STARTER
    """Checkpoint: our folder, an official folder, or a model*.pt in one (default: the weights that come with the code)."""
    motion_length: Annotated[float, Range(0, 86_400, above=True)] = 6.0
    """Length in seconds; longer than the model can make is cut, with a note."""
    num_samples: Annotated[int, Range(1, 1_000_000)] | None = None
    """How many samples (default: one for --text_prompt, every prompt of a file, 10 of a test split)."""
    num_repetitions: Annotated[int, Range(1, 100_000)] = 3
    """Motions per sample, each from its own noise."""
    seed: Annotated[int, SEED] = 10
    """Seed; the same seed gives the same motions, whatever the batch size."""
    guidance_scale: Annotated[float, Range(-1000, 1000)] | None = None
    """Strength of classifier-free guidance (default: the checkpoint's; 1 follows the text without guidance)."""
    sampler: Literal["ddpm", "ddim", "plms", "dpmpp"] | None = None
    """How the diffusion is run backwards (default: the checkpoint's)."""
    num_steps: Annotated[int, Range(1, 100_000)] | None = None
    """Denoising steps (default: the checkpoint's)."""
    batch_size: Annotated[int, Range(1, 65_536)] = 64
    """Motions made at once."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1."""
    cuda: bool = True
    """False: stay on the CPU."""
    output_dir: Path | None = None
    """Folder for the files (default: outputs/<checkpoint>_<prompt>_seed<seed>); an existing one is kept, `_2` is added."""
    video: bool = True
    """Write mp4 videos and a PNG strip (--no_video: motions only)."""
    gif: bool = False
    """Also write an animated GIF per motion."""
    html: bool = False
    """Also write a page per prompt that plays its motions in 3D in any browser, without a network."""


def load(model_path: Path | str = STARTER, device: str = "auto") -> "nn.Module":
    """The model of a checkpoint, ready to sample. Raises FileNotFoundError or ValueError saying what is wrong."""
    from model.generation import SYSTEMS
    from model.pretrained import from_pretrained
    from protos.processes import pick_device

    return from_pretrained(Path(model_path), device=pick_device(device), systems=SYSTEMS)


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

    from model.generation import Sampling
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


def requests_of(options: SampleOptions, model: "nn.Module") -> "list[Request]":
    """The prompts the options ask for, with their lengths in frames. Says so where the model reads none."""
    from model.generation import reads_text
    from sample.prompts import Request, clean_prompt, frames_of, read_prompt_file

    config = model.config
    given = options.text_prompt is not None or options.input_text is not None
    if given and not reads_text(model) and config.condition == "none":
        log.warning("this model reads no text: it was trained without, so the prompt changes nothing but the files' names")
    frames = frames_of(options.motion_length, config.fps, config.max_frames)
    if options.text_prompt is not None:
        return [Request(clean_prompt(options.text_prompt), frames)] * (options.num_samples or 1)
    checkpoint = checkpoint_in(options.model_path)
    own_prompts = (checkpoint if checkpoint.is_dir() else checkpoint.parent) / PROMPTS_FILE
    if options.input_text is not None:
        requests = read_prompt_file(options.input_text, frames, config.fps, config.max_frames)
    elif options.dataset is None and own_prompts.is_file():
        log.info("no prompt given: using %s", own_prompts)
        requests = read_prompt_file(own_prompts, frames, config.fps, config.max_frames)
    else:
        requests = _test_split(options, model)
        return requests[: options.num_samples or 10]
    if options.num_samples:
        requests = [requests[i % len(requests)] for i in range(options.num_samples)]
    return requests


def _test_split(options: SampleOptions, model: "nn.Module") -> "list[Request]":
    from data_loaders.corpus import Corpus, Representation
    from sample.prompts import PromptError, Request, fit_frames

    config = model.config
    corpus = Corpus.open(options.dataset or config.dataset)
    Representation(config.skeleton, config.fps, config.heading).require(
        corpus.representation, f"the checkpoint {options.model_path}", f"the dataset {corpus.folder}"
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
        for i in clips[:: max(1, len(clips) // (options.num_samples or 10))]
    ]


def check(options: SampleOptions) -> None:
    """Refuses what cannot be asked for, before anything is loaded. Raises ValueError."""
    from sample.prompts import PromptError, clean_prompt

    if options.text_prompt is not None:
        clean_prompt(options.text_prompt)
    if sum((options.text_prompt is not None, options.input_text is not None, options.dataset is not None)) > 1:
        raise PromptError("give one of --text_prompt, --input_text and --dataset")


def write_files(folder: Path, motions: "list[Motion]", requests: "list[Request]", options: SampleOptions) -> None:
    """Everything a run leaves behind; `motions` in the order of the results file, repetition by repetition."""
    import numpy as np

    from protos.files import atomic_file
    from sample.results import stack, write_results

    repetitions, count = options.num_repetitions, len(requests)
    texts = [request.text for request in requests] * repetitions
    first, joints = motions[0], [motion.joints[0] for motion in motions]
    write_results(folder, stack(joints, texts, count, repetitions, first.fps, first.skeleton))
    for row, motion in enumerate(motions):
        with atomic_file(folder / "joints" / f"{_name(row % count, row // count)}.npy") as file:
            np.save(file, motion.joints[0])
    if options.video:
        write_pictures(folder, motions, count, options)
    if options.html:
        write_pages(folder, motions, count)


def write_pictures(folder: Path, motions: "list[Motion]", count: int, options: SampleOptions) -> None:
    """prompt##_rep##.mp4 of every motion, prompt##.mp4 with the repetitions side by side, prompt##.png as a strip."""
    from tqdm import tqdm

    from visualize.video import write_gif, write_strip, write_video

    for row, motion in enumerate(tqdm(motions, desc="videos", unit="video", disable=None if len(motions) > 4 else True)):
        path = folder / f"{_name(row % count, row // count)}.mp4"
        write_video(path, [motion])
        if options.gif:
            write_gif(path.with_suffix(".gif"), [motion])
    for sample in range(count):
        row = motions[sample::count]
        if len(row) > 1:
            write_video(folder / f"prompt{sample:02d}.mp4", row)
        write_strip(folder / f"prompt{sample:02d}.png", row[0])


def write_pages(folder: Path, motions: "list[Motion]", count: int) -> None:
    """prompt##.html: the repetitions of a prompt side by side, to turn and to step through."""
    from visualize.web_viewer import write_viewer

    for sample in range(count):
        row = motions[sample::count]
        labels = [f"rep{repetition:02d}" for repetition in range(len(row))]
        write_viewer(folder / f"prompt{sample:02d}.html", row, labels=labels if len(row) > 1 else None)


def _name(sample: int, repetition: int) -> str:
    return f"prompt{sample:02d}_rep{repetition:02d}"


def main() -> None:
    options = parse(SampleOptions, description=__doc__)
    setup_logging()
    check(options)
    from protos.randomness import derive_seed
    from sample.prompts import default_folder, new_folder, require_total
    from sample.unknown_prompts import unknown_prompts, warn

    model = load(options.model_path, options.device if options.cuda else "cpu")
    requests = requests_of(options, model)
    require_total((request.frames for request in requests), options.num_repetitions)
    warn(unknown_prompts(options.model_path, [request.text for request in requests], model))
    rows = [(sample, repetition) for repetition in range(options.num_repetitions) for sample in range(len(requests))]
    wanted = options.output_dir or default_folder(
        options.model_path.name if options.model_path.is_dir() else options.model_path.parent.name,
        requests, options.seed, options.input_text,
    )  # fmt: skip
    folder = new_folder(wanted)
    try:
        motions = generate(
            [requests[sample].text for sample, _ in rows],
            [requests[sample].frames for sample, _ in rows],
            model,
            [derive_seed(options.seed, "sample", sample, repetition) for sample, repetition in rows],
            options.guidance_scale, options.sampler, options.num_steps, options.batch_size,
        )  # fmt: skip
    except BaseException:
        folder.rmdir()  # ours, and still empty
        raise
    write_files(folder, motions, requests, options)
    log.info("%d motions in %s", len(motions), folder)


if __name__ == "__main__":
    run_command(main)
