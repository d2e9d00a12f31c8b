"""python -m evaluations.eval_probes --model_path FOLDER: does a text-to-motion model do what it is told?

Makes every wording of every probe with several seeds, judges the joints by rule, and reports pass rates, physics beside
real clips, and how near the motions are to training clips. `--validate` instead shows what each probe is worth on real
clips; `--motions real` judges real clips of the test split, `--motions FOLDER` the motions of a sampling run.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from protos.bounds import BATCH_SIZE, GUIDANCE, REPLICATIONS, SAMPLING_STEPS, SEED, Range, check_bounds
from protos.options import parse, run_command
from protos.processes import setup_logging
from sample.generation import STARTER

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from data_loaders.corpus import Corpus
    from evaluations.probe_rules import Description
    from evaluations.probe_validation import RealClip, Validity
    from evaluations.tables import Physics

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EvalProbesOptions:
    """Judge a text-to-motion model by rules on its joints."""

    model_path: Path = STARTER
    """Checkpoint: our folder, an official folder, or a model*.pt in one (default: the starter weights)."""
    validate: bool = False
    """Judge the probes instead of a model, on the real clips of the dataset; exit code 1 where one is not valid."""
    motions: str | None = None
    """Judge these instead of a model: `real` (clips of the test split), or a folder written by a sampling run."""
    dataset: str = "bandai_namco"
    """Prepared dataset with the real clips: folder or known name."""
    seeds: Annotated[int, REPLICATIONS] = 10
    """Motions per wording."""
    seed: Annotated[int, SEED] = 0
    """First seed; both motions of a pair share theirs."""
    physics_clips: Annotated[int, Range(0, 1_000_000)] = 200
    """Make motions for so many captions of the test split too, to compare physics with those very clips (0: none)."""
    only: str | None = None
    """Only the probes of a group (locomotion, hands, actions, pairs) or whose name begins so."""
    guidance_scale: Annotated[float, GUIDANCE] | None = None
    """Strength of classifier-free guidance (default: the checkpoint's)."""
    sampler: Literal["ddpm", "ddim", "plms", "dpmpp"] | None = None
    """How the diffusion is run backwards (default: the checkpoint's)."""
    num_steps: Annotated[int, SAMPLING_STEPS] | None = None
    """Denoising steps (default: the checkpoint's)."""
    batch_size: Annotated[int, BATCH_SIZE] = 64
    """Motions made at once."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1."""
    output_dir: Path | None = None
    """Folder for the reports (default: outputs/probes_<what>); an existing one is kept, `_2` is added."""
    save_motions: bool = False
    """Also write the motions as a results file, to be judged again with --motions or to be looked at."""

    def __post_init__(self) -> None:
        check_bounds(self, "--")


def generate_motions(
    options: EvalProbesOptions,
    model: "nn.Module",
    prompts: Sequence[str],
    frames: Sequence[int],
    seeds: Sequence[int],
) -> "tuple[list[np.ndarray], float]":
    """Joints [(T, 22, 3), ...] in metres and their frames per second: the one place where a model is asked."""
    from sample.generation import generate

    # Equal lengths side by side: a batch costs as much as its longest motion.
    order = sorted(range(len(prompts)), key=lambda i: frames[i])
    made = generate(
        [prompts[i] for i in order], [frames[i] for i in order], model, [seeds[i] for i in order],
        guidance_scale=options.guidance_scale, sampler=options.sampler, num_steps=options.num_steps,
        batch_size=options.batch_size, device=options.device,
    )  # fmt: skip
    if made and made[0].skeleton != "humanml":
        raise ValueError(
            f"{options.model_path} makes {made[0].skeleton} motions; probes judge the 22 joints of humanml"
        )
    joints: list = [None] * len(prompts)
    for i, motion in zip(order, made):
        joints[i] = motion.joints[0]
    return joints, made[0].fps if made else 20.0


def describe_all(motions: "Sequence[np.ndarray]", fps: float) -> "list[Description | None]":
    from tqdm import tqdm

    from evaluations.probe_rules import describe

    return [describe(joints, fps) for joints in tqdm(motions, desc="judging", unit="motion", disable=None)]


def physics_report(
    corpus: "Corpus | None",
    motions: "Sequence[np.ndarray]",
    fps: float,
    made: "Sequence[np.ndarray]",
    clips: Sequence[int],
) -> "dict[str, Physics]":
    """`physics_summary` of the judged motions, of those made for test captions, and of the very test clips."""
    from data_loaders.kinematics import physics_summary
    from data_loaders.skeleton import load_skeleton
    from evaluations.tables import known

    skeleton = load_skeleton("humanml")
    report = {"motions of the probes": known(physics_summary(motions, fps, skeleton))}
    if made:
        report["generated test captions"] = known(physics_summary(made, fps, skeleton))
    if corpus is not None:
        real = [corpus.joints(i) for i in clips]
        name = "the same real clips" if made else "real test clips"
        report[name] = known(physics_summary(real, corpus.fps, skeleton))
    return report


def memorisation_report(
    corpus: "Corpus", motions: "Sequence[np.ndarray]", made: "Sequence[np.ndarray]", clips: Sequence[int]
) -> tuple[dict[str, dict], list[tuple[float, str]]]:
    """Distances to the nearest training clip of each set of motions, and of each judged motion."""
    from tqdm import tqdm

    from evaluations.nearest_motion import MotionBank
    from evaluations.probe_report import distances

    train = corpus.split("train")
    progress = tqdm(train, desc="training clips", unit="clip", disable=None)
    bank = MotionBank((corpus.joints(i) for i in progress), [corpus.names[i] for i in train], corpus.fps)
    real = bank.nearest([corpus.joints(i) for i in clips])
    found = bank.nearest(motions)
    report = {"motions of the probes": distances(found, real), "real test clips": distances(real, real)}
    if made:
        report["generated test captions"] = distances(bank.nearest(made), real)
    return report, found


def open_corpus(options: EvalProbesOptions) -> "Corpus | None":
    """The dataset; None, with a note, where it is not there and nothing but the comparison with real clips needs it."""
    from data_loaders.corpus import Corpus

    try:
        return Corpus.open(options.dataset)
    except FileNotFoundError as error:
        if options.validate or options.motions == "real":
            raise
        log.warning("%s. Going on without validity, real physics and distances to training clips", error)
        return None


def validate_probes(corpus: "Corpus", probes: tuple) -> "tuple[list[RealClip], list[Validity]]":
    from evaluations.probe_validation import control_motions, real_clips, validate

    clips = real_clips(corpus)
    return clips, validate(clips, control_motions(corpus), probes)


def evaluate(options: EvalProbesOptions) -> dict:
    """Runs the whole evaluation and writes its files; returns what report.json holds. Raises ValueError or OSError."""
    from evaluations.probe_report import markdown, summarise, write_report
    from evaluations.probe_samples import captioned_test_clips, chosen_probes, samples_of_folder, samples_of_real
    from evaluations.probes import judge, plan
    from evaluations.stamps import checkpoint_stamp, joints_stamp
    from evaluations.tables import fresh_outputs
    from protos.names import safe_name
    from protos.randomness import derive_seed

    probes = chosen_probes(options.only)
    corpus = open_corpus(options)
    model, made, clips = None, [], []
    if options.motions is None:
        from sample.generation import load

        model = load(options.model_path, options.device)  # first: what cannot be sampled should not cost a validation
    real, validity = validate_probes(corpus, probes) if corpus is not None else ([], [])
    fps = corpus.fps if corpus is not None else 20.0
    if corpus is not None:
        captions, clips = captioned_test_clips(corpus, options.physics_clips or len(corpus))
    if options.motions == "real":
        samples, motions = samples_of_real(real, probes)
    elif options.motions is not None:
        samples, motions, own_fps = samples_of_folder(Path(options.motions))
        fps = own_fps or fps
    else:
        samples = plan(options.seeds, model.config.fps, probes)
        seeds = [derive_seed(options.seed, "probe", s.probe, s.wording, s.repetition) for s in samples]
        motions, fps = generate_motions(
            options, model, [s.prompt for s in samples], [s.frames for s in samples], seeds
        )
        if options.physics_clips and corpus is not None:
            frames = [int(corpus.lengths[i]) for i in clips]
            seeds = [derive_seed(options.seed, "caption", k) for k in range(len(clips))]
            made, _ = generate_motions(options, model, captions, frames, seeds)
    descriptions = describe_all(motions, fps)
    verdicts = judge(samples, descriptions)
    memorisation, nearest = memorisation_report(corpus, motions, made, clips) if corpus is not None else ({}, [])
    source = options.motions or str(options.model_path)
    report = {
        "source": "real clips of the test split" if source == "real" else source,
        "command": " ".join(["python -m evaluations.eval_probes", *sys.argv[1:]]),
        "wordings": options.motions != "real",
        "settings": {
            name: getattr(options, name) for name in ("seeds", "seed", "guidance_scale", "sampler", "num_steps")
        },
        "made_from": {
            "dataset": corpus.stamp if corpus is not None else None,
            "model": checkpoint_stamp(options.model_path) if model is not None else None,
            "motions": joints_stamp(motions) if options.motions not in (None, "real") else None,
        },
        "summary": summarise(samples, descriptions, verdicts, validity),
        "physics": physics_report(corpus, motions, fps, made, clips),
        "memorisation": memorisation,
    }
    name = "real" if source == "real" else safe_name(Path(source).resolve().name)
    outputs = fresh_outputs(options.output_dir or Path("outputs") / f"probes_{name}", "report of probes")
    write_report(outputs, report, validity, samples, descriptions, verdicts, nearest)
    if options.save_motions:
        from sample.results import stack, write_results

        outputs.claim("motions.npy", "motions.npz", "motions.txt", "motions_len.txt")
        write_results(outputs.folder, stack(motions, [s.prompt for s in samples], len(samples), 1, fps))
    print(markdown({**report, "wordings": False}, []))
    log.info("report.json, report.md and samples.csv in %s", outputs.folder)
    return report


def validate_only(options: EvalProbesOptions) -> bool:
    """Prints and writes the table of validity; whether every probe is valid."""
    from evaluations.probe_report import validity_table
    from evaluations.probe_samples import chosen_probes
    from evaluations.tables import fresh_outputs, write_plain

    corpus = open_corpus(options)
    clips, validity = validate_probes(corpus, chosen_probes(options.only))
    text = validity_table(validity)
    outputs = fresh_outputs(options.output_dir or Path("outputs") / "probe_validity", "validity of probes")
    outputs.write(
        "validity.md",
        f"# Validity of the probes on {len(clips)} real clips of {corpus.folder.name}\n\n{text}\n\n"
        f"Made from dataset {corpus.stamp}.\n",
    )
    write_plain(outputs, "validity.json", [row.as_dict() for row in validity])
    print(text)
    invalid = [row.probe for row in validity if not row.valid]
    log.info("%d of %d probes are valid; table in %s", len(validity) - len(invalid), len(validity), outputs.folder)
    return not invalid


def main() -> None:
    options = parse(EvalProbesOptions, description=__doc__)
    setup_logging()
    if options.validate:
        sys.exit(0 if validate_only(options) else 1)
    evaluate(options)


if __name__ == "__main__":
    run_command(main)
