"""The report of captions: metrics of language by the form of the references, then what an evaluator and named words say."""

from collections.abc import Mapping, Sequence
from typing import Any

from evaluations.captions import FORMS, LANGUAGE, RESAMPLES, CaptionEvaluation, Captions, Judged
from evaluations.metrics import POOL
from evaluations.report import Report, apart, command_line, percent
from protos.tables import table

GIVEN = "given motions"  # in the place of a split
EVALUATOR = {"R@1": "R@1 ↑", "R@2": "R@2 ↑", "R@3": "R@3 ↑", "MM-Dist": "MM-Dist ↓"}
REFERENCES = (
    "Beside raw references captions count as people wrote them; beside tokens both sides count as the words of their word/POS "
    "tokens. Numbers of one form say nothing about those of the other. People: one of a motion's captions beside its others, "
    "so with a reference fewer than other rows."
)
SCALE = f"Times 100, CIDEr too (CIDEr-D, not cleaned); ± 95 %, by {RESAMPLES} bootstrap samples of the motions."


def caption_report(
    rows: Mapping[str, tuple[Captions, Judged]], evaluation: CaptionEvaluation, measured: Mapping[str, Any]
) -> Report:
    """Of rows by their names. measured: what a reader is to know of the models, the data and what it was `made_from`.

    captions.csv holds every caption, so that others can score them.
    """
    scorer, known = evaluation.scorer, [(name, judged) for name, (_, judged) in rows.items()]
    facts = {
        **measured, "command": command_line("evaluations.eval_m2t"), "replications": evaluation.replications,
        "seed": evaluation.seed, "bertscore": {"encoder": scorer.name, "sha256": scorer.sha256},
        "rows": {name: judged.facts() for name, judged in known},
    }  # fmt: skip
    language = [[name, form, judged.motions, *(judged.language[form][each] for each in LANGUAGE), str(scorer)]
                for name, judged in known for form in FORMS if form in judged.language]  # fmt: skip
    what = measured["what"] or "people"
    captions = [[name, evaluation.data.entries[i].name, text] for name, (row, _) in rows.items()
                for i, text in zip(row.chosen, row.texts)]  # fmt: skip
    others = other_figures(known)
    return Report(
        f"Captions: {what} on {measured['dataset']} ({measured['split']}, {len(evaluation.data)} motions)", facts,
        ["captions", "references", "motions", *(f"{each} ↑" for each in LANGUAGE), "BERTScore by"], language,
        [REFERENCES, SCALE, *notes(known, evaluation, measured), *([table(*others)] if others else [])],
        lists={"captions.csv": (["row", "motion", "caption"], captions), **({"named.csv": apart(*others)} if others else {})},
    )  # fmt: skip


def notes(rows: Sequence[tuple[str, Judged]], evaluation: CaptionEvaluation, measured: Mapping[str, Any]) -> list[str]:
    """How captions were made and judged, and what chance is."""
    found = []
    if measured["decoding"]:
        beams, prompt = measured["decoding"]["beams"], measured["decoding"]["prompt"]
        how = f"{beams} beams" if beams > 1 else "greedy"
        found.append(f"Captions of the model: {how}, " + (f"beginning with '{prompt}'." if prompt else "no prompt."))
        if measured["split"] == GIVEN:
            found.append("Its BERTScore beside the raw texts that motions were made for is LaMP-BertScore (Li et al. 2025).")
    if evaluation.judge is not None:
        few = f"not known of fewer motions than the {POOL} of a pool"
        pools = f"in pools of {POOL}" if len(evaluation.data) >= POOL else few
        found.append(f"R-precision and MM-Dist of captions and real motions by {measured['evaluator']}, {pools}, "
                     f"{evaluation.replications} replications.")  # fmt: skip
    if named := next((judged.named for _, judged in rows if judged.named and judged.named.content), None):
        sides = f", {named.side.clips} of them with a side" if named.side else ""
        found.append("Right content and side: share of captions that name what a clip's label says, by words of the dataset, of "
                     f"{named.content.clips} clips where that is known{sides}. Chance is what the same captions would score if "
                     "they were dealt out to the same clips blindly.")  # fmt: skip
    return found


def other_figures(rows: Sequence[tuple[str, Judged]]) -> tuple[list[str], list[list[object]]] | None:
    """Columns and rows of what no reference is needed for; None where nothing is known."""
    if not any(judged.evaluator or judged.named for _, judged in rows):
        return None
    columns = ["captions", "motions", *EVALUATOR.values(), "right content, % ↑", "by chance", "right side, % ↑", "by chance"]
    found = []
    for name, judged in rows:
        named: list[object] = []
        for share in judged.named or (None, None):
            named += [percent(share.rate), percent(share.chance)] if share else [None, None]
        found.append([name, judged.captions, *map(judged.evaluator.get, EVALUATOR), *named])
    return columns, found
