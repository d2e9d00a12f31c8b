"""python -m evaluations.eval_probes --model_path FOLDER: does a text-to-motion model do what it is told?

Makes every wording of every probe with several seeds, judges the joints by rule, and reports pass rates, physics beside
real clips, and how near the motions are to training clips. `--validate` instead shows what each probe is worth on real
clips; `--motions real` judges real clips of the test split, `--motions FOLDER` the motions of a sampling run.
"""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from evaluations.settings import DecodingSettings, chosen_dataset
from protos.flags import BATCH_SIZE, REPLICATIONS, SEED, Range
from protos.options import command, run_command
from sample.generation import STARTER

if TYPE_CHECKING:
    from model.capabilities import Generates

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EvalProbesOptions(DecodingSettings):
    """Judge a text-to-motion model by rules on its joints."""

    model_path: Path = STARTER
    """Checkpoint: our folder, an official folder, or a model*.pt in one (default: the starter weights)."""
    validate: bool = False
    """Judge the probes instead of a model, on the real clips of the dataset; exit code 1 where one is not valid."""
    motions: str | None = None
    """Judge these instead of a model: `real` (clips of the test split), or a folder written by a sampling run."""
    dataset: str | None = None
    """Prepared dataset with the real clips, whose probes are asked: folder or known name (default: the checkpoint's own)."""
    seeds: Annotated[int, REPLICATIONS] = 10
    """Motions per wording."""
    seed: Annotated[int, SEED] = 0
    """First seed; both motions of a pair share theirs."""
    physics_clips: Annotated[int, Range(0, 1_000_000)] = 200
    """Make motions for so many captions of the test split too, to compare physics with those very clips (0: none)."""
    only: str | None = None
    """Only the probes of a group (locomotion, hands, actions, pairs, activities) or whose name begins so."""
    batch_size: Annotated[int, BATCH_SIZE] = 64
    """Motions made at once."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1."""
    output_dir: Path | None = None
    """Folder for the reports (default: outputs/probes_<what>); an existing one is kept, `_2` is added."""
    save_motions: bool = False
    """Also write the motions as a results file, to be judged again with --motions or to be looked at."""


def run(options: EvalProbesOptions) -> None:
    """Writes the report, or the validity of the probes; ends with exit code 1 where a probe is not valid."""
    from sample.generation import load

    model = None if options.validate or options.motions else load(options.model_path, options.device)
    if (persons_asked(options) if model is None else model.features.persons) > 1:
        return probe_pairs(model, options)
    return probe_one(model, options)


def persons_asked(options: EvalProbesOptions) -> int:
    """How many people the clips of the dataset show; 1 where it is not there."""
    from data_loaders.corpus import Corpus

    try:
        return Corpus.open(chosen_dataset(options.dataset, options.model_path)).features.persons
    except FileNotFoundError:
        return 1


def probe_pairs(model: "Generates | None", options: EvalProbesOptions) -> None:
    """Writes the report of a model of two people, or, without one, the validity of the probes, ending with exit code 1 where one
    is not valid. ValueError where there are no probes of the dataset."""
    from data_loaders.corpus import Corpus
    from data_loaders.motion_files import write_results
    from evaluations.pair_physics import pair_physics
    from evaluations.pair_probes import make_pairs, pair_probes_of, pair_report, pair_validity, real_segments
    from evaluations.report import checkpoint_stamp, command_line
    from protos.files import safe_name

    if options.motions is not None:
        raise ValueError("--motions judges motions of one person; of two people a model is judged, or with --validate the probes")
    dataset = chosen_dataset(options.dataset, options.model_path)
    probes, real, corpus = pair_probes_of(Path(dataset).name), [], None
    if options.only is not None and not (probes := tuple(each for each in probes if each.name.startswith(options.only))):
        raise ValueError(f"--only {options.only}: no probe of two people begins so")
    if model is None:
        report, valid = pair_validity(probes, Corpus.open(dataset), command_line("evaluations.eval_probes"))
        report.publish(options.output_dir or Path("outputs") / "probe_validity", "validity of probes", "validity")
        sys.exit(not valid)
    try:
        corpus = Corpus.open(dataset)
        real = real_segments(corpus)
    except FileNotFoundError as error:
        log.warning("%s. Going on without real segments", error)
    decoding = options.decoding(options.batch_size)
    made, motions = make_pairs(model, probes, options.seeds, options.seed, decoding)
    physics = {}
    if corpus is not None and options.physics_clips:
        physics = pair_physics(model, corpus, options.physics_clips, options.seeds, options.seed, decoding)
    facts = {
        "model": str(options.model_path),
        "command": command_line("evaluations.eval_probes"),
        "settings": {name: getattr(options, name) for name in ("seeds", "seed", "guidance_scale", "sampler", "sampling_steps")},
        "made_from": {"dataset": corpus and corpus.stamp, "model": checkpoint_stamp(options.model_path)},
    }
    folder = options.output_dir or Path("outputs") / f"probes_{safe_name(options.model_path.resolve().name)}"
    outputs = pair_report(facts, probes, made, real, physics).publish(folder, "report of probes")
    if options.save_motions:
        outputs.claim("motions.npy", "motions.npz", "motions.txt", "motions_len.txt", "p1.npy", "p2.npy")
        write_results(outputs.folder, motions, len(motions))


def probe_one(model: "Generates | None", options: EvalProbesOptions) -> None:
    """The same of one person, by a model, or by motions that are there."""
    from data_loaders.corpus import Corpus, Motion
    from data_loaders.motion_files import write_results
    from evaluations import probe_run
    from evaluations.probe_report import probe_report, summarise, validity_report
    from evaluations.probes import probes_for, probes_of
    from evaluations.report import checkpoint_stamp, command_line, stamp
    from model.capabilities import Request
    from protos.files import safe_name
    from protos.randomness import derive_seed

    dataset = chosen_dataset(options.dataset, options.model_path)
    corpus, real, validity = None, [], []
    try:
        corpus = Corpus.open(dataset)
    except FileNotFoundError as error:
        if options.validate or options.motions == "real":
            raise
        log.warning("%s. Going on without validity, real physics and distances to training clips", error)
    probes = probes_for(corpus) if corpus is not None else probes_of(Path(dataset).name)
    chosen = probes.chosen(options.only)
    if corpus is not None:
        real, validity = probe_run.validate_on(corpus, probes, chosen)
    typed = command_line("evaluations.eval_probes")
    if options.validate:
        report = validity_report(validity, corpus, len(real), typed)
        report.publish(options.output_dir or Path("outputs") / "probe_validity", "validity of probes", "validity")
        valid = sum(row.valid for row in validity)
        log.info("%d of %d probes are valid", valid, len(validity))
        sys.exit(valid < len(validity))

    captioned, captions, clips = [], [], []
    if corpus is not None:
        captions, clips = probe_run.captioned_test_clips(corpus, options.physics_clips or len(corpus))
    source, fps = options.motions or str(options.model_path), probes.fps if corpus is None else corpus.fps
    if options.motions == "real":
        probed = probe_run.probe_real(real, probes, chosen, fps)
    elif options.motions is not None:
        probed = probe_run.probe_folder(Path(options.motions), probes, fps)
    else:
        decoding = options.decoding(options.batch_size)
        probed = probe_run.probe_model(model, probes, chosen, options.seeds, options.seed, decoding)
        if options.physics_clips and corpus is not None:
            asked = [Request(text, int(corpus.lengths[i]), derive_seed(options.seed, "caption", k))
                     for k, (text, i) in enumerate(zip(captions, clips))]  # fmt: skip
            captioned = probe_run.made_joints(model, asked, decoding)
    physics, memorisation, nearest = probe_run.beside_real(probed, captioned, corpus, clips)
    motions = (repr(joints.shape).encode() + joints.tobytes() for joints in probed.motions)
    facts = {
        "source": "real clips of the test split" if source == "real" else source,
        "command": typed,
        "wordings": source != "real",
        "settings": {name: getattr(options, name) for name in ("seeds", "seed", "guidance_scale", "sampler", "sampling_steps")},
        "made_from": {
            "dataset": corpus.stamp if corpus is not None else None,
            "model": checkpoint_stamp(options.model_path) if options.motions is None else None,
            "motions": stamp(motions) if options.motions not in (None, "real") else None,
        },
        "summary": summarise(probed, validity),
        "physics": physics,
        "memorisation": memorisation,
    }
    name = "real" if source == "real" else safe_name(Path(source).resolve().name)
    folder = options.output_dir or Path("outputs") / f"probes_{name}"
    outputs = probe_report(facts, validity, probed, nearest).publish(folder, "report of probes")
    if options.save_motions:
        outputs.claim("motions.npy", "motions.npz", "motions.txt", "motions_len.txt")
        prompts = [prompt for trial in probed.trials for prompt in trial.prompts]
        pairs = zip(probed.motions, prompts, strict=True)
        motions = [Motion(joints[None], probed.fps, captions=(prompt,)) for joints, prompt in pairs]
        write_results(outputs.folder, motions, len(motions))


main = command(EvalProbesOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
