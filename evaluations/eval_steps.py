"""python -m evaluations.eval_steps --model_path FOLDER --sampling_steps 1 2 4 8 20: what do fewer denoising steps cost?

A row for each number of steps, real motion first: do motions follow the probes, are they like real ones (FID, R-precision), do
feet slide, and the CPU time of a motion. Says which is the least number that comes near the largest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from evaluations.settings import ChoiceSettings, chosen_dataset
from protos.flags import SAMPLING_STEPS
from protos.options import command, run_command
from sample.generation import STARTER, GuidanceSettings

if TYPE_CHECKING:
    from evaluations.report import Report
    from model.capabilities import Decoding, Generates

PROBE_LOSS, FID_GROWTH = 0.01, 1.2  # that fewer steps may cost: share of the probes, and times the FID
COLUMNS = ("sampling steps", "probes, %", "FID ↓", "R@3 ↑", "planted foot, m/s", "jerk, m/s³", "CPU ms / motion")
Figures = Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class EvalStepsOptions(ChoiceSettings, GuidanceSettings):
    """Judge a text-to-motion model at several numbers of denoising steps."""

    model_path: Path = STARTER
    """Checkpoint: our folder, an official folder, or a model*.pt in one (default: the starter weights)."""
    sampling_steps: tuple[Annotated[int, SAMPLING_STEPS], ...] = (1, 2, 4, 8, 20)
    """Numbers of denoising steps, a row each."""
    output_dir: Path | None = None
    """Folder for the report (default: outputs/steps_<checkpoint>); an existing one is kept, `_2` is added."""

    def __post_init__(self) -> None:
        if not self.sampling_steps:
            raise ValueError("--sampling_steps: give at least one number of steps")


def least_enough(rows: Mapping[int, Figures]) -> int:
    """The least number of steps that loses at most a point of the probes, where any can be asked, to the largest, and has at most
    1.2 times its FID."""
    most = rows[max(rows)]

    def near(row: Figures) -> bool:
        obeys = most["probes"] is None or row["probes"] >= most["probes"] - PROBE_LOSS - 1e-9
        return obeys and row["fid"] <= FID_GROWTH * most["fid"]

    return min(steps for steps, row in rows.items() if near(row))


def steps_report(real: Figures, rows: Mapping[int, Figures], facts: dict[str, Any]) -> "Report":
    """A row of figures for each number of steps below that of real motion."""
    from evaluations.report import Report, percent
    from protos.tables import decimals

    def line(name: str, row: Figures) -> list[str | None]:
        return [name, percent(row["probes"]), decimals(row["fid"], 3), decimals(row["top3"], 3),
                decimals(row["planted_foot_speed"], 3), decimals(row["jerk"], 1), decimals(row["cpu_ms"], 0)]  # fmt: skip

    least = least_enough(rows)
    near = (f"{least} is the least number of steps that loses at most {100 * PROBE_LOSS:.0f} point of the probes to {max(rows)}, "
            f"with at most {FID_GROWTH:g} times the FID.")  # fmt: skip
    return Report(
        f"Sampling steps of {facts['model']}", {**facts, "least_enough": least, "real": real, "rows": rows}, COLUMNS,
        [line("real motion", real), *(line(str(steps), row) for steps, row in rows.items())], [near],
    )  # fmt: skip


def cpu_ms(model: "Generates", texts: Sequence[str], decoding: "Decoding") -> float:
    """CPU time, of all threads, of a motion of 6 s in a full batch: the least of two runs, the first of which reads the texts."""
    import time

    from model.capabilities import Request
    from sample.generation import motions_for

    frames, spent = min(int(6 * model.features.fps), model.config.max_frames), []
    requests = [Request(texts[i % len(texts)], frames, i) for i in range(decoding.batch_size)]
    for _ in range(2):
        began = time.process_time()
        motions_for(model, requests, decoding, progress=False)
        spent.append(1000 * (time.process_time() - began) / len(requests))
    return min(spent)


def run(options: EvalStepsOptions) -> None:
    """Writes the report. ValueError or OSError, in a user's words, for what cannot be judged."""
    from data_loaders.corpus import Corpus
    from evaluations import probe_run
    from evaluations.evaluation_set import real_set
    from evaluations.motion_sources import ModelSource
    from evaluations.probe_report import summarise
    from evaluations.probes import probes_for
    from evaluations.protocol import GENERATED, PROTOCOLS, REAL, Entrants, Evaluation
    from evaluations.report import checkpoint_stamp, command_line
    from evaluations.text_to_motion import one_person_physics
    from model.capabilities import Decoding
    from model.embedding import default_evaluator, open_space
    from protos.files import safe_name
    from protos.processes import pick_device
    from sample.generation import load

    corpus = Corpus.open(chosen_dataset(options.dataset, options.model_path))
    evaluator = options.evaluator or default_evaluator(corpus)
    model, data, probes = load(options.model_path, options.device), real_set(corpus), probes_for(corpus)
    judge = open_space(evaluator, pick_device(options.device), corpus)
    evaluation = Evaluation(data, judge, replace(PROTOCOLS["mdm"], enough=options.num_motions), options.seed, multimodality=False)
    clips, validity = probe_run.validate_on(corpus, probes)
    rows: dict[int, Figures] = {}
    for steps in sorted(set(options.sampling_steps)):
        decoding = Decoding(options.guidance_scale, options.sampler, steps, batch_size=options.batch_size)
        found = evaluation.replicate(0, Entrants(ModelSource(model, corpus, decoding)), options.num_motions)
        measured = one_person_physics(found, data, None, options.num_motions)
        probed = probe_run.probe_model(model, probes, probes.probes, options.probe_seeds, options.seed, decoding)
        rows[steps] = {**found.rows[GENERATED], **measured[GENERATED], "probes": summarise(probed, validity)["overall"],
                       "cpu_ms": cpu_ms(model, probes.texts(), decoding)}  # fmt: skip
    shown = probe_run.probe_real(clips, probes, probes.probes, corpus.fps)
    real = {**found.rows[REAL], **measured[REAL], "cpu_ms": None, "probes": summarise(shown, validity)["overall"]}
    facts = {
        "model": str(options.model_path), "command": command_line("evaluations.eval_steps"),
        "settings": {"guidance_scale": options.guidance_scale, "sampler": options.sampler, "seed": options.seed,
                     "probe_seeds": options.probe_seeds, "motions": sum(each.row == GENERATED for each in found.motions)},
        "made_from": {"dataset": corpus.stamp, "evaluator": checkpoint_stamp(evaluator),
                      "model": checkpoint_stamp(options.model_path)},
    }  # fmt: skip
    folder = options.output_dir or Path("outputs") / f"steps_{safe_name(options.model_path.resolve().name)}"
    steps_report(real, rows, facts).publish(folder, "report of sampling steps")


main = command(EvalStepsOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
