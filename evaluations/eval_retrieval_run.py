"""What `evaluations.eval_retrieval` does once its options are read: gallery, protocols, files."""

import csv
import io
import logging
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from data_loaders.amass_dataset import AmassDataset, open_dataset
from data_loaders.corpus import Corpus
from data_loaders.text_similarity import duplicates_rule
from evaluations.eval_retrieval import RetrievalOptions
from evaluations.judges import default_evaluator, load_judge, published_name
from evaluations.retrieval_data import items_of
from evaluations.retrieval_metrics import DIRECTIONS, SMALL_BATCH, THRESHOLD, TOP_K, ranks
from evaluations.retrieval_protocol import (
    PAPER_NAMES,
    Figures,
    Sentences,
    Similarities,
    chance_of,
    default_sentences,
    published_subset,
    run_protocol,
    similarities_of,
)
from evaluations.stamps import checkpoint_stamp, spoken
from evaluations.tables import fresh_outputs, table, write_plain
from model.saved_text_features import SENTENCES, features_beside
from protos.names import safe_name
from protos.processes import Processes
from protos.reading import read_names

log = logging.getLogger(__name__)

COLUMNS = (*(f"R{k:02d}" for k in TOP_K), "MedR")
HEADINGS = (*(f"R@{k} ↑" for k in TOP_K), "MedR ↓")
WAYS = {"t2m": "text → motion", "m2t": "motion → text"}


def evaluate(options: RetrievalOptions, command: Sequence[str] = ()) -> dict | None:
    """The report, which the main process also writes to the output folder; None in the others. `command`: its flags.

    Raises ValueError or OSError in a user's words.
    """
    processes = Processes(options.device)
    data = open_dataset(options.dataset)
    path = options.model_path or default_evaluator(data)
    judge = load_judge(path, data, device=str(processes.device))
    judge.require(data.representation, f"dataset {data.folder}")
    items, left_out = items_of(data, options.split, judge.frame_limits, options.fold_mirrored)
    if left_out.skipped:
        log.info("%d clips; %s", len(items), left_out)
    protocols = protocols_of(options.protocol, len(items))

    @cache  # only two of the protocols compare sentences
    def sentences() -> Sentences:
        return sentences_of(options, data)

    gallery = similarities_of(items, judge, processes.share)
    if not processes.main:
        return None
    listed = subset_list(data, options.split)
    figures = {name: run_protocol(name, gallery, sentences, listed) for name in protocols}
    report = {
        "what": str(path),
        "command": " ".join(["python -m evaluations.eval_retrieval", *command]),
        "dataset": data.folder.name, "split": options.split, "motions": len(gallery), "texts": len(gallery.texts),
        "fold_mirrored": options.fold_mirrored, "left_out": str(left_out), "similarity": judge.similarity,
        "sentences": description(sentences()) if {"threshold", "nsim"} & set(protocols) else None,
        "protocols": figures,
        "chance": {name: chance_of(name, gallery, sentences, listed) for name in protocols},
        "made_from": {"dataset": data.stamp, "model": checkpoint_stamp(path)},
    }  # fmt: skip
    write_report(options, report, gallery)
    return report


def protocols_of(wanted: str, count: int) -> list[str]:
    """Names in PAPER_NAMES. All of them: those that so many clips allow, with a word on the other."""
    if wanted != "all":
        return [wanted]
    if count >= SMALL_BATCH:
        return list(PAPER_NAMES)
    log.warning("no small batches: they need at least %d motions, there are %d", SMALL_BATCH, count)
    return [name for name in PAPER_NAMES if name != "guo"]


def sentences_of(options: RetrievalOptions, data: Corpus | AmassDataset) -> Sentences:
    """How texts are compared, as the options and the dataset say."""
    saved = None
    if isinstance(data, AmassDataset) and options.sentence_encoder != "minilm":
        saved = features_beside(data.folder, SENTENCES, "mpnet")
    if saved is not None:
        found = Sentences(saved, options.threshold, name="mpnet")
    else:
        found = default_sentences(options.threshold, encoder=options.sentence_encoder)
    published = published_name(data) is not None
    if published and found.name != "mpnet":
        log.warning("sentences are compared by %s, not by mpnet: the threshold protocol is not that of the published tables "
                    "(python -m protos.fetch mpnet)", found.name)
    found.duplicates = duplicates_rule(options.duplicates, published, found.name)
    return found


def subset_list(data: Corpus | AmassDataset, split: str) -> list[str]:
    """Names of a dissimilar subset: nsim_<split>.txt of the dataset, or the published ones of humanml and kit; else none."""
    for folder in (data.folder, data.folder / "splits"):
        if (path := folder / f"nsim_{split}.txt").is_file():
            return read_names(path)
    return published_subset(published_name(data)) if split == "test" else []


def description(sentences: Sentences) -> dict:
    return {"encoder": sentences.name, "threshold": sentences.threshold, "duplicates": sentences.duplicates}


def latex_row(figures: Figures) -> str:
    """A row as TMR prints it: recalls and median rank, first of text to motion."""
    return " ".join(f"& {figures[f'{way}/{name}']:.2f}" for way in DIRECTIONS for name in COLUMNS) + r" \\"


def yaml_text(figures: Figures) -> str:
    """Figures in the form of TMR's files."""
    return "".join(f"{name}: {value}\n" for name, value in figures.items())


def yaml_name(protocol: str, threshold: float = THRESHOLD) -> str:
    return f"threshold_{threshold:g}.yaml" if protocol == "threshold" else f"{protocol}.yaml"


def markdown(report: dict) -> str:
    """The report for people."""
    rows = []
    for name, figures in report["protocols"].items():
        count = f"{figures['t2m/len']:.0f}"
        for way in DIRECTIONS:
            rows.append([PAPER_NAMES[name], WAYS[way], count, *(f"{figures[f'{way}/{c}']:.2f}" for c in COLUMNS)])
        rows.append([PAPER_NAMES[name], "chance", count, *(f"{report['chance'][name][c]:.2f}" for c in COLUMNS)])
    lines = [
        f"# Retrieval: {report['what']} on {report['dataset']} ({report['split']}, {report['motions']} motions, "
        f"{report['texts']} distinct texts)", "",
        f"`{report['command']}`", "",
        table(["protocol", "", "N", *HEADINGS], rows), "",
        f"Compared by {'cosine' if report['similarity'] == 'cosine' else 'Euclidean distance'}; equal places are averaged.",
    ]  # fmt: skip
    if sentences := report["sentences"]:
        rule = ("and only where sides, directions and words of content agree" if sentences["duplicates"] == "words"
                else "as published")  # fmt: skip
        lines.append(f"Texts say the same above a score of {sentences['threshold']:g} by {sentences['encoder']}, {rule}.")
    if report["fold_mirrored"]:
        lines.append("Mirrored clips whose original is in the split are left out.")
    lines.append(f"Made from {spoken(report['made_from'])}.")
    return "\n".join(lines)


def write_report(options: RetrievalOptions, report: dict, gallery: Similarities) -> Path:
    """report.json, report.md (with rows for LaTeX), a YAML file per protocol, and ranks.csv with a line per clip."""
    from sample.prompts import file_name

    name = safe_name(f"retrieval_{file_name(Path(report['what']).name)}_{report['dataset']}_{options.split}")
    outputs = fresh_outputs(options.output_dir or Path("outputs") / name, "report of retrieval")
    write_plain(outputs, "report.json", report)
    rows = "\n".join(latex_row(figures) for figures in report["protocols"].values())
    outputs.write("report.md", f"{markdown(report)}\n\n```latex\n{rows}\n```\n")
    threshold = (report["sentences"] or {}).get("threshold", THRESHOLD)
    for protocol, figures in report["protocols"].items():
        outputs.write(yaml_name(protocol, threshold), yaml_text(figures))
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["clip", "caption", "place of its motion", "place of its text"])
    places = [ranks(gallery.similarity) + 1, ranks(gallery.similarity.T) + 1]
    for clip, text, *both in zip(gallery.names, gallery.text_index, *places):
        writer.writerow([clip, gallery.texts[text], *(f"{place:g}" for place in both)])
    outputs.write("ranks.csv", out.getvalue())
    log.info("report.json, report.md and ranks.csv in %s", outputs.folder)
    return outputs.folder
