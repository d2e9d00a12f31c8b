"""Golden cases of caption metrics: BLEU, ROUGE-L, CIDEr, greedy matching of token states."""

from typing import Any

import numpy as np

from evaluations import language_metrics as metrics
from tests.golden.runner import Case
from tests.golden.tmr_model import require_ours

CLEANED = "every ASCII punctuation character to blank, lower case, split on blanks"
WORDS = {CLEANED: metrics.bleu_words, "none, split on blanks": str.split}
OUR_BLEU = {"level": "corpus", "clip": "maximum over references", "smoothing": False,
            "brevity": "sum of the shortest reference lengths", "unit": "fraction"}  # fmt: skip
OUR_ROUGE = {"statistic": "F1", "stemmer": False, "tokens": "lower case, runs of a-z0-9", "aggregate": "plain mean",
             "unit": "fraction"}  # fmt: skip
OUR_CIDER = {"orders": list(range(1, metrics.ORDERS + 1)), "sigma": metrics.SIGMA, "scale": 10.0,
             "document": "reference set of a sample", "clip": "minimum of the tf-idf weights"}  # fmt: skip


def texts(case: Case) -> tuple[list[str], list[list[str]]]:
    """Predictions and the references that a case uses."""
    references = [list(each) for each in case.inputs["references"]]
    if case.config.get("references_used") == "first":
        references = [each[:1] for each in references]
    return list(case.inputs["predictions"]), references


def bleu(case: Case) -> dict[str, Any]:
    require_ours(case.config, OUR_BLEU)
    found = metrics.corpus_bleu(*texts(case), case.config["max_order"], WORDS[case.config["clean"]])
    whole = {name: int(getattr(found, name)) for name in ("translation_length", "reference_length")}
    return {**found._asdict(), "precisions": found.precisions.tolist(), **whole}


def rouge_l(case: Case) -> dict[str, Any]:
    require_ours(case.config, OUR_ROUGE)
    found = metrics.rouge_l(*texts(case), over=case.config["over_references"])
    return {"per_sample": found, "mean": float(found.mean())}


def cider(case: Case) -> dict[str, Any]:
    require_ours(case.config, OUR_CIDER)
    found = metrics.cider(*texts(case), WORDS[case.config["clean"]])
    return {"score": float(found.mean()), "per_sample": found}


def bertscore_greedy(case: Case) -> dict[str, Any]:
    require_ours(case.config, {"masked_similarity": 0.0, "rescale": False, "F": "2PR/(P+R)"})
    sides = [metrics.Tokens(*(np.asarray(case.inputs[f"{side}_{name}"], np.float64) for name in ("embedding", "mask", "idf")))
             for side in ("hyp", "ref")]  # fmt: skip
    return dict(zip("PRF", metrics.greedy_matching(*sides)))


HANDLERS = {"bleu": bleu, "rouge_l": rouge_l, "cider": cider, "bertscore_greedy": bertscore_greedy}
