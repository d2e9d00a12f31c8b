"""python -m evaluations.eval_known_texts --model_path checkpoints/starter: does a checkpoint tell prompts beyond it from others?

Wordings of what its dataset shows, none of them a caption, should pass; actions that these data lack should be told.
The threshold of `model.known_texts` is chosen on one part of the prompts and reported on the other.
"""

import logging
from dataclasses import dataclass, field, replace
from pathlib import Path

from evaluations.settings import chosen_dataset
from protos.options import command, run_command
from sample.generation import STARTER

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KnownTextsEvaluationOptions:
    """Measure how often known wordings are warned of, and how often actions that the data lack."""

    model_path: Path = STARTER
    """Checkpoint folder with known_texts.npz."""
    dataset: str | None = None
    """Dataset whose prompts are judged (default: that which the checkpoint was trained on)."""
    list_wrong: bool = False
    """Also print the prompts that are judged wrongly."""


@dataclass(frozen=True)
class Asked:
    """Prompts of a part: wordings of what a dataset shows, actions it lacks, and those its base lacks that are `shown` here."""

    known: list[str]
    lacking: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class PromptsFile:
    """known_texts.json of a dataset; one with a `base`, a dataset that has such a file, adds to that one's prompts."""

    calibration: Asked
    test: Asked
    base: str = ""


def prompts(dataset: str) -> dict[str, Asked]:
    """Prompts by part, calibration and test, of a dataset; the wordings of its probes calibrate too.

    ValueError where there are none of the dataset.
    """
    from evaluations.probes import probes_of

    probes, found = probes_of(dataset), _in_files(dataset)
    wordings = [text for text in probes.texts() if text not in found["calibration"].known]
    return found | {"calibration": replace(found["calibration"], known=[*wordings, *found["calibration"].known])}


def _in_files(dataset: str) -> dict[str, Asked]:
    from evaluations.probes import DATASETS
    from protos.reading import read_json

    file = read_json(DATASETS / dataset / "known_texts.json", PromptsFile)
    below = _in_files(file.base) if file.base else {}
    found = {}
    for part, own in (("calibration", file.calibration), ("test", file.test)):
        base = below.get(part, Asked([]))
        found[part] = Asked(base.known + own.known, [text for text in base.lacking if text not in own.shown] + own.lacking)
    return found


def run(options: KnownTextsEvaluationOptions) -> None:
    """Prints the shares that are warned of. ValueError where there are no prompts of the dataset."""
    import numpy as np

    from evaluations.report import table
    from model.known_texts import FILE, KnownTexts

    sketch = KnownTexts.load(options.model_path / FILE)
    rows = []
    for part, asked in prompts(chosen_dataset(options.dataset, options.model_path)).items():
        kinds = {"known": asked.known, "lacking": asked.lacking}
        found = {kind: np.array([verdict.score for verdict in sketch.judge(texts)]) for kind, texts in kinds.items()}
        rows += [[part, kind, len(each), f"{100 * np.mean(each > sketch.threshold):.1f}"] for kind, each in found.items()]
        if part == "calibration":  # midway between where 1 % of the known and where all but 5 % of the lacking lie beyond
            midway = (np.quantile(found["known"], 0.99) + np.quantile(found["lacking"], 0.05)) / 2
            log.info("threshold %.3f; chosen on this part it would be %.3f", sketch.threshold, midway)
        if options.list_wrong:
            for kind, texts in kinds.items():
                wrong = (found[kind] > sketch.threshold) == (kind == "known")
                print(*(f"{part}, {kind}: {texts[i]} ({found[kind][i]:.3f})" for i in np.flatnonzero(wrong)), sep="\n")
    print(table(["part", "prompts", "number", "warned of, %"], rows))


main = command(KnownTextsEvaluationOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
