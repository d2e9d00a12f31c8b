"""python -m evaluations.eval_known_texts --model_path checkpoints/starter: does a checkpoint tell prompts beyond it from others?

Wordings of what its dataset shows, none of them a caption, should pass; actions that these data lack should be told.
The threshold of `model.known_texts` is chosen on one part of the prompts and reported on the other.
"""

import logging
from dataclasses import dataclass
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


def prompts(dataset: str) -> dict[str, dict[str, list[str]]]:
    """{"calibration" | "test": {"known": [...], "lacking": [...]}} of a dataset; the wordings of its probes calibrate too.

    ValueError where there are none of the dataset.
    """
    from evaluations.probes import DATASETS, probes_of
    from protos.reading import read_json

    probes = probes_of(dataset)
    content = read_json(DATASETS / dataset / "known_texts.json", dict[str, dict[str, list[str]]])
    content["calibration"]["known"] = [*probes.texts(), *content["calibration"]["known"]]
    return content


def run(options: KnownTextsEvaluationOptions) -> None:
    """Prints the shares that are warned of. ValueError where there are no prompts of the dataset."""
    import numpy as np

    from evaluations.report import table
    from model.known_texts import FILE, KnownTexts

    sketch = KnownTexts.load(options.model_path / FILE)
    rows = []
    for part, kinds in prompts(chosen_dataset(options.dataset, options.model_path)).items():
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
