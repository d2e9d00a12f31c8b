"""python -m evaluations.eval_m2t --model_path FOLDER: how well captions say what motions show.

Judges a model that describes motion, captions of any other program (--captions), or neither, beside what people say of the same
motions: BLEU, ROUGE-L, CIDEr, BERTScore, R-precision by the dataset's evaluator, and whether content and side are named right.
With --motions a model describes those of a text-to-motion system, and is compared with what they were made for (LaMP-BertScore).
"""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from model.capabilities import CAPTIONING, Captioning
from protos.flags import FPS, REPLICATIONS, SEED, Range, at_most
from protos.options import command, run_command

if TYPE_CHECKING:
    from data_loaders.corpus import Corpus
    from evaluations.evaluation_set import EvaluationSet
    from model.embedding import TextMotionSpace

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class CaptionEvaluationOptions(Captioning):
    """Judge captions of motion."""

    model_path: Path | None = None
    """Checkpoint of a model that describes motion."""
    captions: Path | None = None
    """Judge these: a JSON object {name of a motion: caption}, or a text file of lines NAME, a tab, caption."""
    motions: Path | None = None
    """Have these described instead of the dataset's: a folder of NAME.npy joints and NAME.txt with a caption a line, or the
    results of a sampling run."""
    fps: Annotated[float, FPS] | None = None
    """Frames per second of --motions (default: what results say of themselves, else those of the dataset)."""
    dataset: str | None = None
    """Prepared dataset: folder or known name (default: that which the model was trained on)."""
    split: str = "test"
    """Split of the dataset."""
    num_motions: Annotated[int, Range(1, 1_000_000)] | None = None
    """Motions to judge, drawn at random (default: all)."""
    evaluator: Path | None = None
    """What tells how well captions fit motions (default: the evaluator of the dataset, where there is one)."""
    bert_score: Literal["auto", "minilm", "roberta-large"] = "auto"
    """What BERTScore compares words by (default: roberta-large, as published, where it is on this machine, else minilm)."""
    replications: Annotated[int, REPLICATIONS] = 20
    """Replications of R-precision."""
    seed: Annotated[int, SEED] = 10
    """Seed: the same seed gives the same numbers."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1."""
    output_dir: Path | None = None
    """Folder for the reports and captions.csv (default: outputs/m2t_<what>_<dataset>_<split>)."""

    def __post_init__(self) -> None:
        if self.model_path is None and self.dataset is None:
            raise ValueError("give --model_path, --dataset or both: whose captions are judged, of which motions")
        if self.fps is not None and self.motions is None:
            raise ValueError("--fps says how fast --motions run; a dataset has its own frame rate")


def run(options: CaptionEvaluationOptions) -> dict[str, Any]:
    """The facts of the report. ValueError, after it is written, where given motions are unreadable."""
    from data_loaders.corpus import Corpus
    from evaluations import captions
    from evaluations.bert_score import bert_scorer
    from evaluations.caption_report import GIVEN, caption_report
    from evaluations.caption_words import shown_in
    from evaluations.report import checkpoint_stamp
    from evaluations.settings import chosen_dataset
    from model.capabilities import Describes
    from model.checkpoints import from_pretrained
    from model.registry import able
    from protos.files import file_digest, file_name, safe_name
    from protos.processes import pick_device

    device = pick_device(options.device)
    corpus = Corpus.open(chosen_dataset(options.dataset, options.model_path))
    data, left_out = judged_set(options, corpus)
    rows = [captions.given(options.captions, data)] if options.captions else []
    if options.model_path is not None:
        model = from_pretrained(options.model_path, device, systems=able(Describes))
        model.features.require(data.features, "the model", f"dataset {corpus.folder}")
        texts = captions.described(model, captions.whole_motions(data), options)
        rows.insert(0, captions.of_all(f"model {options.model_path.resolve().name}", texts, data))
    evaluator, judge = judge_of(options, corpus, device)
    shown = None if options.motions else shown_in(corpus)
    evaluation = captions.CaptionEvaluation(data, bert_scorer(options.bert_score), corpus.tagger, judge, shown,
                                            options.replications, options.seed)  # fmt: skip
    rows += [*captions.people(data, options.seed), *captions.most_frequent(corpus, data)]
    judged = {row.name: (row, evaluation.judged(row)) for row in rows}
    what = ", ".join(str(path) for path in (options.model_path, options.captions, options.motions) if path)
    made_from = {"dataset": corpus.stamp, "motions": data.stamp,
                 "model": options.model_path and checkpoint_stamp(options.model_path),
                 "captions": options.captions and file_digest(options.captions)[:16],
                 "evaluator": evaluator and checkpoint_stamp(evaluator)}  # fmt: skip
    decoding = {name: getattr(options, name) for name in asdict(CAPTIONING)} if options.model_path else None
    measured = {"what": what, "dataset": corpus.folder.name, "split": GIVEN if options.motions else options.split,
                "evaluator": evaluator and str(evaluator), "decoding": decoding, "tagger": evaluation.wordings.tagger,
                "made_from": made_from}  # fmt: skip
    report = caption_report(judged, evaluation, measured)
    about = file_name((options.model_path or options.captions or Path("people")).resolve().name)
    name = safe_name(f"m2t_{about}_{corpus.folder.name}_{file_name(options.motions.name) if options.motions else options.split}")
    report.publish(options.output_dir or Path("outputs") / name, "report of captions")
    if left_out:
        some = ", ".join(left_out[:3]) + (", ..." if len(left_out) > 3 else "")
        raise ValueError(f"{len(left_out)} of the motions could not be read ({some}): the report is of the others")
    return report.facts


def judged_set(options: CaptionEvaluationOptions, corpus: "Corpus") -> "tuple[EvaluationSet, list[str]]":
    """The motions that are described, and names of given ones that could not be read."""
    from evaluations.captions import caption_set
    from evaluations.evaluation_set import real_set
    from evaluations.motion_sources import given_set, unreadable

    if options.motions is None:
        data, bad = real_set(corpus, options.split), []
    else:
        data, left_out = given_set(options.motions, options.fps, corpus)
        bad = list(unreadable(left_out))
    most = options.num_motions and at_most(options.num_motions, len(data), "--num_motions", "what is to be described")
    return caption_set(data, most, options.seed), bad


def judge_of(options: CaptionEvaluationOptions, corpus: "Corpus", device: Any) -> "tuple[Path | None, TextMotionSpace | None]":
    """The evaluator that is asked for; else that of the dataset, or none, with a note, where there is none."""
    from model.embedding import default_evaluator, open_space

    path = options.evaluator or default_evaluator(corpus)
    if options.evaluator is None and not path.exists():
        log.warning("no R-precision: there is no evaluator of %s at %s (--evaluator names another)", corpus.folder.name, path)
        return None, None
    return path, open_space(path, device, corpus)


main = command(CaptionEvaluationOptions, run, __doc__, {"repeat_times": "replications"})

if __name__ == "__main__":
    run_command(main)
