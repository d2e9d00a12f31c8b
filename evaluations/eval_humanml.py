"""python -m evaluations.eval_humanml --model_path FOLDER: the field's metrics of a text-to-motion model, real motion first.

Judges a model of this project, real motion (`--model_path real`), or motions of any other program (`--motions DIR`).
The same command goes on where it was interrupted. `--processes N` shares the work between processes, with the
same numbers.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from protos.bounds import BATCH_SIZE, FPS, GUIDANCE, PROCESSES, REPLICATIONS, SAMPLING_STEPS, SEED, Range, check_bounds
from protos.options import parse, run_command
from protos.processes import start
from sample.generation import STARTER

log = logging.getLogger(__name__)

ALIASES = {"repeat_times": "replications"}
# (replications, whether texts are made several times); `full` and `mm_short` are those that fill the last column
MODES = {"debug": (5, False), "wo_mm": (20, False), "mm_short": (5, True), "full": (20, True)}
REAL_MOTION = "real"


@dataclass(frozen=True)
class EvalOptions:
    """Judge a text-to-motion model by a published protocol."""

    model_path: str = str(STARTER)
    """Checkpoint: our folder, an official folder, a model*.pt in one, or `real` for the real motions alone."""
    motions: Path | None = None
    """Judge these instead of a model: a folder of NAME.npy joints (T, J, 3) in metres, Y up, and NAME.txt with a caption a
    line, or the results of a sampling run."""
    fps: Annotated[float, FPS] | None = None
    """Frames per second of --motions (default: what results say of themselves, else those of the dataset)."""
    dataset: str = "bandai_namco"
    """humanml, kit, bandai_namco, or a folder made by data_loaders.prepare: the real motions, and the captions to make."""
    split: str = "test"
    """Split of the dataset."""
    evaluator: Path | None = None
    """Evaluator to judge with (default: the published one of humanml and kit, ours of bandai_namco)."""
    protocol: Literal["t2m", "mdm", "t2mgpt", "momask", "lamp"] = "mdm"
    """Whose protocol; they differ in how many motions are made, in what FID compares and in which texts repeat."""
    eval_mode: Literal["debug", "wo_mm", "mm_short", "full"] = "wo_mm"
    """debug: 5 replications; wo_mm: 20; mm_short: 5 with MultiModality, 30 motions a text; full: 20 with it."""
    replications: Annotated[int, REPLICATIONS] | None = None
    """Replications (default: as --eval_mode says)."""
    num_motions: Annotated[int, Range(1, 1_000_000)] | None = None
    """Motions to make per replication, in pools of 32 (default: as the protocol says; mdm: 1024 or the whole split)."""
    controls: bool = False
    """Judge shuffled captions and noise too: rows that every metric that should tell them apart must tell apart."""
    physics_clips: Annotated[int, Range(0, 1_000_000)] = 200
    """Motions of the first replication whose physics is compared with that of real ones (0: none)."""
    guidance_scale: Annotated[float, GUIDANCE] | None = None
    """Strength of classifier-free guidance (default: the checkpoint's)."""
    sampler: Literal["ddpm", "ddim", "plms", "dpmpp"] | None = None
    """How the diffusion is run backwards (default: the checkpoint's)."""
    num_steps: Annotated[int, SAMPLING_STEPS] | None = None
    """Denoising steps (default: the checkpoint's)."""
    batch_size: Annotated[int, BATCH_SIZE] = 64
    """Motions made at once."""
    seed: Annotated[int, SEED] = 10
    """Seed: the same seed gives the same numbers."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1; of several processes each takes a GPU of its own, or its part of the CPU."""
    processes: Annotated[int, PROCESSES] = 1
    """Processes on this machine that share the work."""
    output_dir: Path | None = None
    """Folder for the reports; a run with the same settings on the same data is gone on with (default:
    outputs/eval_<what>_<dataset>_<protocol>, with `_2` added where another one is there)."""
    overwrite: bool = False
    """Begin anew in a folder that holds an evaluation."""

    def __post_init__(self) -> None:
        check_bounds(self, "--")
        if self.fps is not None and self.motions is None:
            raise ValueError("--fps says how fast --motions run; a model has its own frame rate")

    @property
    def name(self) -> str:
        """What is judged, as a file name."""
        from sample.prompts import file_name

        return file_name(self.motions.name if self.motions else Path(self.model_path).name)

    @property
    def count(self) -> int:
        return MODES[self.eval_mode][0] if self.replications is None else self.replications


def main(argv: list[str] | None = None) -> None:
    options = parse(EvalOptions, argv, __doc__, ALIASES)
    start(run, options)


def run(options: EvalOptions) -> None:
    from evaluations.eval_humanml_run import evaluate

    report = evaluate(options)
    if report is not None:
        from evaluations.eval_report import markdown

        print(markdown(report))
        if unreadable := report["unreadable"]:
            names = ", ".join(list(unreadable)[:3]) + (", ..." if len(unreadable) > 3 else "")
            raise ValueError(f"{len(unreadable)} of the motions could not be read ({names}): the report is of the others")


if __name__ == "__main__":
    run_command(main)
