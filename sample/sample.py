"""python -m sample.sample --text_prompt "a person waves the right hand": text to motion, as files and as videos."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from protos.flags import BATCH_SIZE, SEED, Range
from protos.options import KNOWN_BY_CHECKPOINT, command, run_command
from sample.generation import STARTER, DecodingSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SampleOptions(DecodingSettings):
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
    batch_size: Annotated[int, BATCH_SIZE] = 64
    """Motions made at once."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1."""
    output_dir: Path | None = None
    """Folder for the files (default: outputs/<checkpoint>_<prompt>_seed<seed>); an existing one is kept, `_2` is added."""
    video: bool = True
    """Write mp4 videos and a PNG strip (--no_video: motions only)."""
    gif: bool = False
    """Also write an animated GIF per motion."""
    html: bool = False
    """Also write a page per prompt that plays its motions in 3D in any browser, without a network."""


def run(options: SampleOptions) -> None:
    """What cannot be asked for is refused before anything is loaded; a run that fails leaves no folder."""
    from protos.files import file_name, numbered_folder
    from protos.randomness import derive_seed
    from sample.generation import (
        PromptError,
        clean_prompt,
        load,
        motions_for,
        requests_for,
        require_total,
        unknown_prompts,
        warn_unknown,
        write_motions,
    )

    if options.text_prompt is not None:
        clean_prompt(options.text_prompt)
    if sum((options.text_prompt is not None, options.input_text is not None, options.dataset is not None)) > 1:
        raise PromptError("give one of --text_prompt, --input_text and --dataset")
    checkpoint = options.model_path
    model = load(checkpoint, options.device)
    requests = requests_for(
        model, checkpoint, options.text_prompt, options.input_text, options.dataset, options.motion_length, options.num_samples
    )
    require_total((request.frames for request in requests), options.num_repetitions)
    warn_unknown(unknown_prompts(checkpoint, [request.text for request in requests], model))
    name = file_name(checkpoint.name if checkpoint.is_dir() else checkpoint.parent.name)
    texts = {request.text for request in requests}
    what = options.input_text.stem if options.input_text else texts.pop() if len(texts) == 1 else f"{len(requests)} prompts"
    folder = numbered_folder(options.output_dir or Path("outputs") / f"{name}_{file_name(what)}_seed{options.seed}")
    rows = [replace(request, seed=derive_seed(options.seed, "sample", sample, repetition))
            for repetition in range(options.num_repetitions) for sample, request in enumerate(requests)]  # fmt: skip
    try:
        motions = motions_for(model, rows, options.decoding(options.batch_size))
    except BaseException:
        folder.rmdir()  # ours, and still empty
        raise
    write_motions(folder, motions, len(requests), options.video, options.gif, options.html)
    log.info("%d motions in %s", len(motions), folder)


main = command(SampleOptions, run, __doc__, ignored=KNOWN_BY_CHECKPOINT)

if __name__ == "__main__":
    run_command(main)
