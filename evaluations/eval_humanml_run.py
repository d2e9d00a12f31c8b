"""What `evaluations.eval_humanml` does once its options are read: data, judge, replications, files."""

import hashlib
import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data_loaders.corpus import Corpus
from data_loaders.kinematics import physics_summary
from evaluations.eval_humanml import MODES, REAL_MOTION, EvalOptions
from evaluations.eval_report import gap_to_published, write_report
from evaluations.evaluation_set import EvaluationSet, real_set
from evaluations.judges import default_evaluator, load_judge, published_name
from evaluations.motion_sources import ModelSource, feature_joints, given_set, noise_motions
from evaluations.protocol import (
    GENERATED,
    GIVEN,
    PROTOCOLS,
    REAL,
    Entrants,
    Evaluation,
    EvaluationProtocol,
    Judged,
    Replication,
    summary,
)  # fmt: skip
from evaluations.tables import plain
from model.generation import SYSTEMS, Sampling
from protos.files import write_atomically
from protos.processes import Processes

log = logging.getLogger(__name__)

SETTINGS = "settings.json"


def evaluate(options: EvalOptions) -> dict | None:
    """The report, which the main process also writes to the output folder; None in the others.

    Replications that the folder holds already are taken over. Raises ValueError or OSError in a user's words.
    """
    processes = Processes(options.device)
    corpus = Corpus.open(options.dataset)
    data = real_set(corpus, options.split)
    evaluator = options.evaluator or default_evaluator(corpus)
    judge = load_judge(evaluator, corpus, device=str(processes.device))
    protocol = protocol_of(options)
    source, entrants = entrants_of(options, corpus, processes)
    evaluation = Evaluation(data, judge, protocol, options.seed, MODES[options.eval_mode][1], processes.share)
    settings = {
        **plain(asdict(options)), **dict.fromkeys(("replications", "output_dir", "device", "batch_size")),
        "protocol": asdict(protocol), "eval_mode": evaluation.multimodality,
        "evaluator": digest(evaluator), "model": digest(Path(options.model_path)) if source else None,
        "motions": names_of(entrants.given),
    }  # fmt: skip
    settings.pop("processes")  # the numbers are those of one
    folder = processes.from_main(lambda: folder_for(options, settings))
    replications = run(evaluation, entrants, options, folder, corpus, processes)
    if not processes.main:
        return None
    report = {
        "what": str(options.motions or options.model_path),
        "command": " ".join(["python -m evaluations.eval_humanml", *sys.argv[1:]]),
        "dataset": corpus.folder.name, "split": options.split, "motions": len(data), "evaluator": shown(evaluator),
        "protocol": protocol.name, "whose": protocol.whose, "replications": len(replications), "seed": options.seed,
        "rows": {row: summary([each.rows[row] for each in replications]) for row in replications[0].rows},
        "values": [each.rows for each in replications],
        "seconds_per_motion": float(np.mean([r.seconds for r in replications])) if replications[0].seconds else None,
        "parameters": sum(p.numel() for p in source.networks.parameters()) if source else None,
        "physics": replications[0].physics,
        "published": published_name(corpus) if evaluator == default_evaluator(corpus) else None,
    }  # fmt: skip
    for warning in gap_to_published(report):
        log.warning(warning)
    write_report(folder, report, replications)
    log.info("report.json, report.md and motions.csv in %s", folder)
    return report


def protocol_of(options: EvalOptions) -> EvaluationProtocol:
    protocol = PROTOCOLS[options.protocol]
    return protocol if options.num_motions is None else replace(protocol, enough=options.num_motions)


def entrants_of(options: EvalOptions, corpus: Corpus, processes: Processes) -> tuple[ModelSource | None, Entrants]:
    """What is judged beside real motion, and the model where there is one."""
    noise = partial(noise_motions, mean=corpus.mean, std=corpus.std) if options.controls else None
    if options.motions is not None:
        given, _ = given_set(options.motions, options.fps or corpus.fps, corpus)
        return None, Entrants(given=given, noise=noise)
    if options.model_path == REAL_MOTION:
        return None, Entrants(noise=noise)
    from model.pretrained import from_pretrained

    networks = from_pretrained(options.model_path, processes.device, dataset_folder=corpus.folder, systems=SYSTEMS)
    sampling = Sampling(options.guidance_scale, options.sampler, options.num_steps, batch_size=options.batch_size)
    source = ModelSource(networks, corpus, sampling, progress=processes.main)
    return source, Entrants(generate=source, noise=noise)


def shown(path: Path) -> str:
    """A path as a reader of the report would type it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def digest(path: Path) -> str:
    """SHA-256 of the weights at a path: a file, or all weight files of a folder."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.suffix in (".safetensors", ".pt", ".tar"))
    found = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            found.update(hashlib.file_digest(opened, "sha256").digest())
    return found.hexdigest()


def names_of(given: EvaluationSet | None) -> list | None:
    """What tells a set of given motions from another."""
    if given is None:
        return None
    return [[entry.name, len(entry.motion), f"{float(np.abs(entry.motion).sum()):.3f}"] for entry in given.entries]


def folder_for(options: EvalOptions, settings: dict) -> Path:
    """The folder of this evaluation: one begun with the same settings is gone on with, any other is left alone."""
    from sample.prompts import new_folder

    wanted = options.output_dir or Path("outputs") / f"eval_{options.name}_{Path(options.dataset).name}_{options.protocol}"
    text = json.dumps(settings, indent=1)
    for folder in sorted(wanted.parent.glob(f"{wanted.name}*")):
        if (folder / SETTINGS).is_file() and (folder / SETTINGS).read_text() == text:
            return folder
    folder = new_folder(wanted)
    write_atomically(folder / SETTINGS, text)
    return folder


def run(
    evaluation: Evaluation, entrants: Entrants, options: EvalOptions, folder: Path, corpus: Corpus, processes: Processes
) -> list[Replication]:
    """All replications, each saved as soon as it is done."""
    store = folder / "replications"
    found = []
    with tqdm(range(options.count), desc="replications", unit="", disable=not processes.main or None) as bar:
        for number in bar:
            path = store / f"{number:02d}.json"
            if processes.from_main(path.is_file):
                replication = processes.from_main(lambda path=path: read_replication(path))
            else:
                count = options.physics_clips if number == 0 else 0
                replication = evaluation.replicate(number, entrants, count)
                replication.physics = physics(replication, evaluation.data, entrants.given, corpus, count)
                if processes.main:
                    store.mkdir(exist_ok=True)
                    write_replication(path, replication)
            found.append(replication)
            rows = replication.rows
            bar.set_postfix_str(f"top3 {(rows.get(GENERATED) or rows.get(GIVEN) or rows[REAL])['top3']:.3f}")
    return found


def write_replication(path: Path, replication: Replication) -> None:
    content = {name: getattr(replication, name) for name in ("rows", "motions", "seconds", "physics")}
    write_atomically(path, json.dumps(plain(content)))


def read_replication(path: Path) -> Replication:
    content = json.loads(path.read_text())
    content["motions"] = [Judged(*each) for each in content["motions"]]
    return Replication(**content)


def physics(
    replication: Replication, data: EvaluationSet, given: EvaluationSet | None, corpus: Corpus, count: int
) -> dict[str, dict]:
    """`physics_summary` of `count` motions of the last row, and of the real ones that have the same captions, or any."""
    if not count:
        return {}

    def figures(motions: Sequence[np.ndarray]) -> dict[str, float]:
        return physics_summary(feature_joints(motions, corpus.skeleton), corpus.fps, corpus.skeleton)

    real, own = ({entry.name: entry.motion for entry in each.entries} if each else {} for each in (data, given))
    judged = {row: [each for each in replication.motions if each.row == row][:count] for row in (REAL, GENERATED, GIVEN)}
    report = {}
    if replication.features:
        report[GENERATED] = figures(replication.features)
        judged[REAL] = judged[GENERATED]
    elif given is not None:
        report[GIVEN] = figures([own[each.clip] for each in judged[GIVEN]])
    return {REAL: figures([real[each.clip][: each.frames] for each in judged[REAL]]), **report}
