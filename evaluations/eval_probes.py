"""python -m evaluations.eval_probes --model_path FOLDER: does a text-to-motion model do what it is told?

Makes every wording of every probe with several seeds, judges the joints by rule, and reports pass rates, physics beside
real clips, and how near the motions are to training clips. `--validate` instead shows what each probe is worth on real
clips; `--motions real` judges real clips of the test split, `--motions FOLDER` the motions of a sampling run.
"""

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from protos.bounds import BATCH_SIZE, GUIDANCE, REPLICATIONS, SAMPLING_STEPS, SEED, Range, check_bounds
from protos.options import command, run_command
from sample.generation import STARTER

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
    dataset: str | None = None
    """Prepared dataset with the real clips, whose probes are asked: folder or known name (default: the checkpoint's own)."""
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
    sampling_steps: Annotated[int, SAMPLING_STEPS] | None = None
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


def run(options: EvalProbesOptions) -> None:
    """Writes the report, or the validity of the probes; ends with exit code 1 where a probe is not valid."""
    from functools import partial

    from data_loaders.corpus import Corpus
    from evaluations import probe_run
    from evaluations.probe_report import report_of, summarise, write_validity
    from evaluations.probes import probes_for, probes_of
    from evaluations.report import checkpoint_stamp, command_line, fresh_outputs, stamp
    from model.run_folder import dataset_of
    from protos.names import safe_name
    from protos.randomness import derive_seed
    from sample.generation import generate, load
    from sample.results import stack, write_results

    only_real = options.validate or options.motions == "real"
    model = None if options.validate or options.motions else load(options.model_path, options.device)
    dataset = options.dataset or (model.config.dataset if model is not None else dataset_of(options.model_path))
    try:
        corpus = Corpus.open(dataset)
    except FileNotFoundError as error:
        if only_real:
            raise
        log.warning("%s. Going on without validity, real physics and distances to training clips", error)
        corpus = None
    probes = probes_for(corpus) if corpus is not None else probes_of(Path(dataset).name)
    chosen = probes.chosen(options.only)
    real, validity = probe_run.validate_on(corpus, probes, chosen) if corpus is not None else ([], [])
    if options.validate:
        outputs = fresh_outputs(options.output_dir or Path("outputs") / "probe_validity", "validity of probes")
        print(write_validity(outputs, corpus, len(real), validity))
        valid = sum(row.valid for row in validity)
        log.info("%d of %d probes are valid; table in %s", valid, len(validity), outputs.folder)
        sys.exit(valid < len(validity))

    captioned, captions, clips = [], [], []
    if corpus is not None:
        captions, clips = probe_run.captioned_test_clips(corpus, options.physics_clips or len(corpus))
    fps = corpus.fps if corpus is not None else probes.fps
    if options.motions == "real":
        judged = probe_run.judge_real(real, probes, chosen, fps)
    elif options.motions is not None:
        judged = probe_run.judge_folder(Path(options.motions), probes, fps)
    else:
        make = partial(
            generate, model=model, guidance_scale=options.guidance_scale, sampler=options.sampler,
            sampling_steps=options.sampling_steps, batch_size=options.batch_size,
        )  # fmt: skip
        judged = probe_run.judge_model(make, model.config.fps, probes, chosen, options.seeds, options.seed)
        if options.physics_clips and corpus is not None:
            seeds = [derive_seed(options.seed, "caption", k) for k in range(len(clips))]
            captioned = probe_run.made_joints(make, captions, [int(corpus.lengths[i]) for i in clips], seeds)
    nearest, memorisation = [], {}
    if corpus is not None:
        memorisation, nearest = probe_run.nearest_training_clips(judged, captioned, corpus, clips)
    source = options.motions or str(options.model_path)
    facts = {
        "source": "real clips of the test split" if source == "real" else source,
        "command": command_line("evaluations.eval_probes"),
        "wordings": source != "real",
        "settings": {name: getattr(options, name) for name in ("seeds", "seed", "guidance_scale", "sampler", "sampling_steps")},
        "made_from": {
            "dataset": corpus.stamp if corpus is not None else None,
            "model": checkpoint_stamp(options.model_path) if model is not None else None,
            "motions": stamp(repr(joints.shape).encode() + joints.tobytes() for joints in judged.motions)
            if options.motions not in (None, "real") else None,
        },
        "summary": summarise(judged, probes, validity),
        "physics": probe_run.physics_beside_real(judged, captioned, corpus, clips),
        "memorisation": memorisation,
    }
    name = "real" if source == "real" else safe_name(Path(source).resolve().name)
    report = report_of(facts, validity, judged, nearest)
    outputs = report.publish(options.output_dir or Path("outputs") / f"probes_{name}", "report of probes")
    if options.save_motions:
        outputs.claim("motions.npy", "motions.npz", "motions.txt", "motions_len.txt")
        prompts = [sample.prompt for sample in judged.samples]
        write_results(outputs.folder, stack(judged.motions, prompts, len(prompts), 1, judged.fps))


main = command(EvalProbesOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
