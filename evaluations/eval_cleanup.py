"""python -m evaluations.eval_cleanup --model_path FOLDER: does it help to filter jitter out of motions, and to hold planted feet?

A row for motions as they are made, filtered, with held feet, and both: do they still follow the probes, are they as near to real
ones (FID, R-precision), how fast do feet slide that rest in them as made, what is their jerk. Says what a checkpoint is best
exported with.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from evaluations.settings import ChoiceSettings, DecodingSettings, chosen_dataset
from protos.flags import Range
from protos.options import command, run_command
from sample.exports import JITTER_CUTOFF
from sample.generation import STARTER

if TYPE_CHECKING:
    from evaluations.report import Report
    from model.capabilities import Cleanup

log = logging.getLogger(__name__)
PROBE_LOSS, FID_GROWTH = 0.005, 1.02  # that cleaning may cost: share of the probes, and times the FID
AS_IT_IS = "as made"
COLUMNS = ("motions", "probes, %", "FID ↓", "R@3 ↑", "resting feet, m/s", "jerk, m/s³", "lowest joint, m")
Figures = Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class EvalCleanupOptions(ChoiceSettings, DecodingSettings):
    """Judge what is done to a model's motions once they are made."""

    model_path: Path = STARTER
    """Checkpoint: our folder, an official folder, or a model*.pt in one (default: the starter weights)."""
    jitter_filter: Annotated[float, Range(0, 1000, above=True)] = JITTER_CUTOFF
    """Frequency in Hz from which on the filter takes movement for jitter."""
    only: str | None = None
    """Only the probes of a group (locomotion, hands, actions, pairs, activities) or whose name begins so."""
    output_dir: Path | None = None
    """Folder for the report (default: outputs/cleanup_<checkpoint>); an existing one is kept, `_2` is added."""

    def rows(self) -> "dict[str, Cleanup]":
        """What is judged, by its name in the table."""
        from model.capabilities import AS_MADE, Cleanup

        return {AS_IT_IS: AS_MADE, "jitter filter": Cleanup(self.jitter_filter), "foot lock": Cleanup(0.0, True),
                "both": Cleanup(self.jitter_filter, True)}  # fmt: skip


def best_of(rows: Mapping[str, Figures]) -> str:
    """The row whose resting feet slide least among those that lose next to nothing of the probes and of FID, where these can be
    told, and jerk no more than as made; of equals the first."""
    made = rows[AS_IT_IS]

    def harmless(row: Figures) -> bool:
        obeys = made["probes"] is None or row["probes"] >= made["probes"] - PROBE_LOSS - 1e-9
        real = made["fid"] is None or row["fid"] <= FID_GROWTH * made["fid"]
        calm = made["jerk"] is None or row["jerk"] is None or row["jerk"] <= made["jerk"] + 1e-9
        return obeys and real and calm

    def slides(name: str) -> float:
        speed = rows[name]["resting_foot_speed"]
        return math.inf if speed is None else speed  # no foot ever rests

    return min((name for name, row in rows.items() if name == AS_IT_IS or harmless(row)), key=slides)


def cleanup_report(real: Figures | None, rows: Mapping[str, Figures], flags: Mapping[str, str],
                   facts: dict[str, Any]) -> "Report":  # fmt: skip
    """A row of figures for each way of cleaning, below that of real motion. flags: of train.export, by row."""
    from evaluations.report import Report, percent
    from protos.tables import decimals

    def line(name: str, row: Figures) -> list[str | None]:
        return [name, percent(row["probes"]), decimals(row["fid"], 3), decimals(row["top3"], 3),
                decimals(row["resting_foot_speed"], 3), decimals(row["jerk"], 1), decimals(row["lowest_joint"], 3)]  # fmt: skip

    best = best_of(rows)
    note = (f"Resting feet slide least, with at most {100 * PROBE_LOSS:g} points of the probes lost, {FID_GROWTH:g} times the "
            f"FID and no more jerk: {best}. To make it the checkpoint's own: python -m train.export {flags[best]}")  # fmt: skip
    shown = rows if real is None else {"real motion": real, **rows}
    lines = [line(name, row) for name, row in shown.items()]
    facts = {**facts, "best": best, "real": real, "rows": rows}
    return Report(f"Cleaning the motions of {facts['model']}", facts, COLUMNS, lines, [note])


def run(options: EvalCleanupOptions) -> None:
    """Writes the report. ValueError or OSError, in a user's words, for what cannot be judged."""
    from data_loaders.corpus import Corpus
    from evaluations import probe_run
    from evaluations.cleaned_motions import cleaned_joints, judged_ways, physics_alone
    from evaluations.probe_report import summarise
    from evaluations.probes import probes_for, probes_of
    from evaluations.report import checkpoint_stamp, command_line
    from model.capabilities import AS_MADE
    from model.embedding import default_evaluator
    from protos.files import safe_name
    from sample.generation import load

    dataset, corpus = chosen_dataset(options.dataset, options.model_path), None
    try:
        corpus = Corpus.open(dataset)
    except FileNotFoundError as error:
        log.warning("%s. Going on without FID, R-precision and real motion", error)
    probes = probes_of(Path(dataset).name) if corpus is None else probes_for(corpus)
    model, decoding = load(options.model_path, options.device), options.decoding(options.batch_size)
    model.cleanup, ways = AS_MADE, options.rows()
    chosen = probes.chosen(options.only)
    clips, validity = ([], []) if corpus is None else probe_run.validate_on(corpus, probes, chosen)
    probed = probe_run.probe_model(model, probes, chosen, options.probe_seeds, options.seed, decoding)
    evaluator = None if corpus is None else options.evaluator or default_evaluator(corpus)
    real, rows = judged_ways(model, corpus, evaluator, decoding, ways, options.num_motions, options.seed, options.device)
    found: dict[str, dict[str, float | None]] = {}
    for name, cleanup in ways.items():
        cleaned = cleaned_joints(probed, cleanup)
        own = rows.get(name) or physics_alone(probed, cleaned)
        found[name] = {**own, "probes": summarise(cleaned, validity)["overall"]}
    if real is not None:
        shown = probe_run.probe_real(clips, probes, chosen, corpus.fps)
        real = {**real, "probes": summarise(shown, validity)["overall"]}
    export = f"--checkpoint {options.model_path} --output FOLDER"
    flags = {name: f"{export} --jitter_filter {cleanup.jitter_filter:g} --{'' if cleanup.foot_lock else 'no_'}foot_lock"
             for name, cleanup in ways.items()}  # fmt: skip
    facts = {
        "model": str(options.model_path), "command": command_line("evaluations.eval_cleanup"),
        "settings": {name: getattr(options, name) for name in ("seed", "probe_seeds", "only", "num_motions", "jitter_filter")},
        "made_from": {"dataset": corpus and corpus.stamp, "evaluator": evaluator and checkpoint_stamp(evaluator),
                      "model": checkpoint_stamp(options.model_path)},
    }  # fmt: skip
    folder = options.output_dir or Path("outputs") / f"cleanup_{safe_name(options.model_path.resolve().name)}"
    cleanup_report(real, found, flags, facts).publish(folder, "report of cleaning")


main = command(EvalCleanupOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
