"""python -m sample.sample --text_prompt "a person waves the right hand": text to motion, as files and as videos."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from protos.flags import FRAMES, Range
from protos.options import KNOWN_BY_CHECKPOINT, command, run_command
from sample.exports import CleanupSettings, RunSettings
from sample.generation import STARTER, DecodingSettings


@dataclass(frozen=True, kw_only=True)
class SampleOptions(CleanupSettings, RunSettings, DecodingSettings):
    """Make motions from text. Without a prompt: the checkpoint's own prompts, or the captions of a test split."""

    text_prompt: str | None = None
    """What the person does, in English."""
    input_text: Path | None = None
    """File of prompts, one per line: `text`, `text#frames`, or `text#NA` for a length that is estimated."""
    length_estimator: Path | None = None
    """Checkpoint that estimates lengths: of train.train_length_estimator, or MoMask's published one."""
    dataset: str | None = None
    """Take prompts and lengths from the test split of this dataset (folder or known name)."""
    model_path: Path = STARTER
    """Checkpoint: our folder, an official folder, or a model*.pt in one (default: the weights that come with the code)."""
    motion_length: Annotated[float, Range(0, 86_400, above=True)] = 6.0
    """Length in seconds; longer than the model can make is cut, with a note."""
    motion_frames: Annotated[int, FRAMES] | None = None
    """Length in frames instead, as `text#frames` counts them."""
    num_samples: Annotated[int, Range(1, 1_000_000)] | None = None
    """How many samples (default: one for --text_prompt, every prompt of a file, 10 of a test split)."""


def run(options: SampleOptions) -> None:
    """What cannot be asked for is refused before anything is loaded; a run that fails leaves no folder."""
    from sample.generation import (
        PromptError,
        asked_frames,
        clean_prompt,
        load,
        requests_of,
        require_total,
        unknown_prompts,
        warn_unknown,
        write_run,
    )
    from sample.prompt_files import requests_for

    if options.text_prompt is not None:
        clean_prompt(options.text_prompt)
    if sum((options.text_prompt is not None, options.input_text is not None, options.dataset is not None)) > 1:
        raise PromptError("give one of --text_prompt, --input_text and --dataset")
    checkpoint = options.model_path
    model = load(checkpoint, options.device, options.precision)
    frames = asked_frames(model, options.motion_length, options.motion_frames)
    if options.text_prompt is not None:
        requests = requests_of(model, options.text_prompt, frames, options.num_samples or 1)
    else:
        requests = requests_for(model, checkpoint, options.input_text, options.dataset, frames, options.num_samples,
                                options.length_estimator)  # fmt: skip
    require_total((request.frames for request in requests), options.num_repetitions)
    warn_unknown(unknown_prompts(checkpoint, [request.text for request in requests], model))
    texts = {request.text for request in requests}
    what = options.input_text.stem if options.input_text else texts.pop() if len(texts) == 1 else f"{len(requests)} prompts"
    write_run(model, requests, options, options.decoding(options.batch_size), checkpoint, what, options.cleanup_of(model))


ALIASES = {  # LaMP's and MoMask's names
    "text_path": "input_text", "repeat_times": "num_repetitions", "time_steps": "sampling_steps", "cond_scale": "guidance_scale",
    "topkr": "top_k",
}  # fmt: skip
main = command(SampleOptions, run, __doc__, ALIASES, ignored=KNOWN_BY_CHECKPOINT)

if __name__ == "__main__":
    run_command(main)
