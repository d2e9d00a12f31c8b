"""python -m evaluations.eval_known_texts --model_path checkpoints/starter: does a checkpoint tell prompts beyond it from others?

Wordings of what the Bandai-Namco data show, none of them a caption, should pass; actions that these data lack should be told.
The threshold of `model.known_texts` is chosen on one part of the prompts and reported on the other.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from protos.options import parse, run_command
from protos.processes import setup_logging

if TYPE_CHECKING:
    from model.known_texts import KnownTexts

log = logging.getLogger(__name__)
PROMPTS = Path(__file__).with_name("known_texts_prompts.json")


@dataclass(frozen=True)
class KnownTextsEvaluationOptions:
    """Measure how often known wordings are warned of, and how often actions that the data lack."""

    model_path: Path = Path("checkpoints/starter")
    """Checkpoint folder with known_texts.npz."""
    list_wrong: bool = False
    """Also print the prompts that are judged wrongly."""


def prompts() -> dict[str, dict[str, list[str]]]:
    """{"calibration" | "test": {"known": [...], "lacking": [...]}}; the wordings of the probes calibrate too."""
    from evaluations.probes import wordings
    from protos.reading import read_json

    content = read_json(PROMPTS, dict[str, dict[str, list[str]]])
    pairs = [each for probe in wordings().values() for each in probe["prompts"]]
    probes = [text for each in pairs for text in ([each] if isinstance(each, str) else each)]
    content["calibration"]["known"] = [*probes, *content["calibration"]["known"]]
    return content


def scores(sketch: "KnownTexts", texts: list[str]) -> list[float]:
    return [verdict.score for verdict in sketch.judge(texts)]


def threshold_of(known: list[float], lacking: list[float]) -> float:
    """Midway between where 1 % of the known wordings and where all but 5 % of the lacking actions lie beyond."""
    import numpy as np

    return float(np.quantile(known, 0.99) + np.quantile(lacking, 0.05)) / 2


def main(argv: list[str] | None = None) -> None:
    options = parse(KnownTextsEvaluationOptions, argv, __doc__)
    setup_logging()
    import numpy as np

    from evaluations.tables import table
    from model.known_texts import FILE, KnownTexts

    sketch = KnownTexts.load(options.model_path / FILE)
    rows = []
    for part, kinds in prompts().items():
        found = {kind: np.array(scores(sketch, texts)) for kind, texts in kinds.items()}
        rows += [[part, kind, len(each), f"{100 * np.mean(each > sketch.threshold):.1f}"] for kind, each in found.items()]
        if part == "calibration":
            log.info("threshold %.3f; chosen on this part it would be %.3f", sketch.threshold, threshold_of(*found.values()))
        if options.list_wrong:
            for kind, texts in kinds.items():
                wrong = (found[kind] > sketch.threshold) == (kind == "known")
                print(*(f"{part}, {kind}: {texts[i]} ({found[kind][i]:.3f})" for i in np.flatnonzero(wrong)), sep="\n")
    print(table(["part", "prompts", "number", "warned of, %"], rows))


if __name__ == "__main__":
    run_command(main)
