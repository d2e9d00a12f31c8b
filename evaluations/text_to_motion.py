"""Judges text-to-motion models, or given motions, by a published protocol: data, judge, replications, and files that are
gone on with where an evaluation was interrupted."""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data_loaders.corpus import Corpus
from data_loaders.physics import MEASURES, Physics, physics_of
from data_loaders.skeleton import load_skeleton
from evaluations.evaluation_set import EvaluationSet, real_set
from evaluations.metrics import mean_interval
from evaluations.metrics_report import Measured, gap_to_published, metrics_report, published_table
from evaluations.motion_sources import ModelSource, feature_joints, given_set, noise_motions, unreadable
from evaluations.played_back import one_person
from evaluations.protocol import (
    GENERATED,
    GIVEN,
    NOISE,
    PROTOCOLS,
    REAL,
    Control,
    Entrants,
    Evaluation,
    EvaluationProtocol,
    Generate,
    Replication,
    summary,
)
from evaluations.report import Report, checkpoint_stamp, command_line
from evaluations.settings import MODES, REAL_MOTION, EvaluationSettings, chosen_dataset
from model.capabilities import Generates
from model.embedding import default_evaluator, open_space
from model.registry import able
from protos.files import encode_json, file_name, safe_name
from protos.outputs import OutputError, Outputs
from protos.processes import Processes
from protos.reading import FileError, read_json

log = logging.getLogger(__name__)

SETTINGS, STORE = "settings.json", "replications"
REPORTS = ("report.json", "report.md", "report.csv", "motions.csv")
STORED = ("rows", "motions", "seconds", "judge", "physics")  # of a replication


def one_person_physics(
    replication: Replication, data: EvaluationSet, given: EvaluationSet | None, count: int
) -> dict[str, Physics]:
    """`physics_of` `count` motions of the last row, and of the real ones that have the same captions, or any."""
    skeleton = load_skeleton(data.features.skeleton)

    def figures(motions: Sequence[np.ndarray]) -> Physics:
        return physics_of(feature_joints(motions, data.features), data.features.fps, skeleton)

    real, own = ({entry.name: entry.motion for entry in each.entries} if each else {} for each in (data, given))
    judged = {row: [each for each in replication.motions if each.row == row][:count] for row in (REAL, GENERATED, GIVEN)}
    report = {}
    if GENERATED in replication.kept:
        report[GENERATED] = figures(replication.kept[GENERATED])
        judged[REAL] = judged[GENERATED]
    elif given is not None:
        report[GIVEN] = figures([own[each.clip] for each in judged[GIVEN]])
    return {REAL: figures([real[each.clip][: each.frames] for each in judged[REAL]]), **report}


@dataclass(frozen=True)
class Cast:
    """In what evaluations of motions of one person and of several differ."""

    command: str  # that the report names
    settings: type[EvaluationSettings]
    real_set: Callable[[Corpus, EvaluationSettings], EvaluationSet]
    source: type[ModelSource]
    controls: Callable[[Corpus], Mapping[str, Control]]
    physics: Callable[[Replication, EvaluationSet, EvaluationSet | None, int], dict[str, Physics]]
    report: Callable[[Measured, Sequence[Replication]], Report]
    protocol: Callable[[EvaluationProtocol, EvaluationSet], EvaluationProtocol] = lambda protocol, data: protocol
    baselines: Callable[[Corpus], Mapping[str, Generate]] = lambda corpus: {}
    judged: Callable[..., tuple[ModelSource | None, Entrants, dict[str, str]]] | None = None  # instead of `entrants_of`


def split_of(corpus: Corpus, settings: EvaluationSettings) -> EvaluationSet:
    """The real motions."""
    return real_set(corpus, settings.split)


def noise_control(corpus: Corpus) -> dict[str, Control]:
    """Rows without any motion in them."""
    return {NOISE: partial(noise_motions, mean=corpus.mean, std=corpus.std)}


ONE_PERSON = Cast(
    "evaluations.eval_humanml", EvaluationSettings, split_of, ModelSource, noise_control, one_person_physics, metrics_report,
    baselines=one_person,
)  # fmt: skip


def measure(
    settings: EvaluationSettings, replications: int, processes: Processes, batch_size: int = 64, output_dir: Path | None = None,
    overwrite: bool = False, cast: Cast = ONE_PERSON,
) -> Measured | None:  # fmt: skip
    """What the evaluation came to, after the main process has written the report to the output folder; None in the others.

    Replications that the folder holds already are taken over. batch_size: motions made at once. Raises ValueError or OSError
    in a user's words.
    """
    trained = settings.evaluator if settings.model_path == REAL_MOTION else settings.model_path
    settings = replace(settings, dataset=chosen_dataset(settings.dataset, trained))
    corpus = Corpus.open(settings.dataset)
    data = cast.real_set(corpus, settings)
    evaluator = settings.evaluator or default_evaluator(corpus)
    judge = open_space(evaluator, processes.device, corpus)
    protocol = cast.protocol(PROTOCOLS[settings.protocol], data)
    protocol = replace(protocol, enough=settings.num_motions or protocol.enough)
    source, entrants, not_read = (cast.judged or entrants_of)(settings, corpus, processes, batch_size, cast)
    evaluation = Evaluation(data, judge, protocol, settings.seed, MODES[settings.eval_mode][1], processes.share)
    made_from = {
        "dataset": corpus.stamp, "evaluator": checkpoint_stamp(evaluator),
        "model": checkpoint_stamp(settings.model_path) if source or cast.judged else None,
        "motions": entrants.given.stamp if entrants.given else None,
    }  # fmt: skip
    kept = {each.name: getattr(settings, each.name) for each in fields(cast.settings)}
    kept |= {"protocol": asdict(protocol), "eval_mode": evaluation.multimodality, "made_from": made_from}
    kept = json.loads(encode_json(kept, SETTINGS))  # as it is read back
    outputs = processes.from_main(
        lambda: outputs_for(output_dir or evaluation_folder(settings, kept, overwrite), kept, replications, overwrite)
    )
    found = replicate(evaluation, entrants, replications, settings.physics_clips, outputs, processes, cast)
    if not processes.main:
        return None
    measured = Measured(
        what=str(settings.motions or settings.model_path), command=command_line(cast.command),
        dataset=corpus.folder.name, split=settings.split, motions=len(data), evaluator=as_typed(evaluator),
        protocol=protocol.name, whose=protocol.whose, replications=len(found), seed=settings.seed,
        rows={row: summary([each.rows[row] for each in found]) for row in found[0].rows},
        values=[each.rows for each in found],
        seconds_per_motion=float(np.mean([each.seconds for each in found])) if found[0].seconds else None,
        parameters=source.networks.num_parameters if source else None,
        physics=found[0].physics, pool=protocol.pool,
        judge={name: mean_interval([each.judge[name] for each in found]) for name in found[0].judge},
        published=published_table(corpus) if evaluator == default_evaluator(corpus) else None,
        made_from=made_from, unreadable=not_read,
    )  # fmt: skip
    for warning in gap_to_published(measured):
        log.warning(warning)
    cast.report(measured, found).write(outputs)
    log.info("%s in %s", ", ".join(REPORTS), outputs.folder)
    return measured


def require_readable(found: Measured) -> None:
    """ValueError where some of the given motions could not be read."""
    if names := list(found.unreadable):
        some = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
        raise ValueError(f"{len(names)} of the motions could not be read ({some}): the report is of the others")


def entrants_of(
    settings: EvaluationSettings, corpus: Corpus, processes: Processes, batch_size: int, cast: Cast
) -> tuple[ModelSource | None, Entrants, dict[str, str]]:
    """What is judged beside real motion, the model where there is one, and which given motions could not be read, and why."""
    beside = {"controls": cast.controls(corpus), "baselines": cast.baselines(corpus)} if settings.controls else {}
    if settings.motions is not None:
        given, left_out = given_set(settings.motions, settings.fps, corpus)
        return None, Entrants(given=given, **beside), unreadable(left_out)
    if settings.model_path == REAL_MOTION:
        return None, Entrants(**beside), {}
    from model.checkpoints import from_pretrained

    networks = from_pretrained(settings.model_path, processes.device, dataset_folder=corpus.folder, systems=able(Generates))
    source = cast.source(networks, corpus, settings.decoding(batch_size), progress=processes.main)
    return source, Entrants(generate=source, **beside), {}


def as_typed(path: Path) -> str:
    """A path as a reader of the report would type it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def evaluation_folder(settings: EvaluationSettings, kept: dict, overwrite: bool) -> Path:
    """outputs/eval_<what>_<dataset>_<protocol>, or with a number after it: the first that is free or holds this evaluation."""
    what = file_name(settings.motions.name if settings.motions else Path(settings.model_path).name)
    name = f"eval_{what}_{safe_name(Path(settings.dataset).resolve().name)}_{settings.protocol}"
    places = (Path("outputs") / (f"{name}_{k}" if k > 1 else name) for k in count(1))
    return next(each for each in places if overwrite or not each.exists() or stored(each) == kept)


def outputs_for(wanted: Path, settings: dict, replications: int, overwrite: bool) -> Outputs:
    """The folder of this evaluation, its files claimed: one begun with the same settings on the same data is gone on with.

    OutputError where it holds another evaluation that may not be replaced.
    """
    there = stored(wanted)
    if there not in (None, settings) and not overwrite:
        raise OutputError(f"{wanted} holds an evaluation of other {differences(there, settings)}: add --overwrite to replace it, "
                          "or give another --output_dir")  # fmt: skip
    outputs = Outputs(wanted, "report of metrics", overwrite=overwrite, going_on=there == settings, earlier=earlier_names,
                      flag="--output_dir")  # fmt: skip
    if overwrite:
        outputs.clear()
    outputs.claim(SETTINGS, *REPORTS, *(replication_name(number) for number in range(replications)))
    outputs.write_json(SETTINGS, settings)
    return outputs


def stored(folder: Path) -> dict | None:
    """The settings that a folder was begun with; None where it holds none."""
    try:
        return read_json(folder / SETTINGS, dict[str, Any])
    except (OSError, FileError):
        return None


def differences(there: dict, settings: dict) -> str:
    """What two settings differ in, for a reader: 'seed, dataset (it has changed since)'."""
    names = [name for name in settings if name != "made_from" and there.get(name) != settings[name]]
    before = there.get("made_from")
    before = before if isinstance(before, dict) else {}
    names += [f"{name} (it has changed since)" for name, stamp in settings["made_from"].items() if before.get(name) != stamp]
    return ", ".join(names)


def earlier_names(folder: Path) -> list[str]:
    """What a version without manifests wrote into such a folder, its settings first."""
    if not {"model_path", "protocol", "evaluator"} <= (stored(folder) or {}).keys():
        return []
    return [SETTINGS, *REPORTS, *(f"{STORE}/{each.name}" for each in (folder / STORE).glob("[0-9]*.json"))]


def replication_name(number: int) -> str:
    """Where a replication lies in the folder of its evaluation."""
    return f"{STORE}/{number:02d}.json"


def replicate(
    evaluation: Evaluation, entrants: Entrants, replications: int, physics_clips: int, outputs: Outputs, processes: Processes,
    cast: Cast,
) -> list[Replication]:  # fmt: skip
    """All replications, each saved as soon as it is done."""
    found = []
    with tqdm(range(replications), desc="replications", unit="", disable=not processes.main or None) as bar:
        for number in bar:
            name = replication_name(number)
            path = outputs.folder / name
            if processes.from_main(path.is_file):
                replication = processes.from_main(lambda path=path: read_replication(path))
            else:
                clips = physics_clips if number == 0 else 0
                replication = evaluation.replicate(number, entrants, clips)
                replication.physics = cast.physics(replication, evaluation.data, entrants.given, clips) if clips else {}
                if processes.main:
                    outputs.write_json(name, {each: getattr(replication, each) for each in STORED})
            found.append(replication)
            rows = replication.rows
            bar.set_postfix_str(f"top3 {(rows.get(GENERATED) or rows.get(GIVEN) or rows[REAL])['top3']:.3f}")
    return found


def read_replication(path: Path) -> Replication:
    """FileError names the file where it is no replication."""
    remedy = "remove the file, and the evaluation makes it again"
    try:
        found = read_json(path, Replication)
    except FileError as error:
        raise FileError(f"{error}: {remedy}") from None
    if REAL not in found.rows or any("top3" not in figures for figures in found.rows.values()):
        raise FileError(f"{path}: expected a row {REAL!r}, and R-precision in every row: {remedy}")
    if not all(key in summary for summary in found.physics.values() for key, _, _ in MEASURES):
        raise FileError(f"{path}: physics lacks a measure: {remedy}")
    return found
