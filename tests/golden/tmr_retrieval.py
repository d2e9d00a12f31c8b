"""Golden cases of TMR's retrieval: metrics of stored matrices, and the data and tools of a whole small project."""

import contextlib
import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_loaders.batches import TrainingItem, collate
from data_loaders.corpus import Corpus
from evaluations import retrieval_metrics
from evaluations.eval_retrieval import RetrievalOptions
from evaluations.eval_retrieval import run as evaluate
from evaluations.retrieval import captioned_motions, latex_row, similarities_of, yaml_name, yaml_text
from model.embedding import TextMotionSpace
from model.official.tmr import load_tmr
from model.text_encoders import WORDS
from model.text_towers import saved_beside
from model.tmr import TMR
from sample.retrieve import main as retrieve
from sample.search import unit_rows
from tests.golden.runner import Case

TIES = {"average": "average", "first": "optimistic"}
ANY_LENGTH = (1, 5000)


def metrics(case: Case) -> dict[str, Any]:
    config, similarity = case.config, case.inputs["sims"]
    if "batch_size" in config:
        size, seed = config["batch_size"], config["permutation"]["seed"]
        batches = retrieval_metrics.small_batches(case.inputs["keyids"], size, seed)
        pools = similarity[batches[:, :, None], batches[:, None, :]]
        found = retrieval_metrics.retrieval_metrics(pools, rounding=config["rounding"])
        in_order = [f"{i:08d}" for i in range(config["n"])]
        return {"metrics_rounded": found, "order": retrieval_metrics.small_batches(in_order, size, seed)}
    ties, alike = TIES[config["ties"]], None
    if config["threshold"] is not None:
        alike = retrieval_metrics.similar_sentences(case.inputs["sent_emb"], config["threshold"])

    def figures(rounding: int | None) -> dict[str, float]:
        found = retrieval_metrics.retrieval_metrics(similarity, alike, ties, rounding)
        if config.get("key_prefix", True):
            return found
        (way,) = config["directions"]
        recalls = {name.removeprefix(f"{way}/"): value for name, value in found.items() if name.startswith(f"{way}/")}
        return {name: value for name, value in recalls.items() if name != "len"}

    return {
        "metrics_rounded": figures(config["rounding"]),
        "metrics_unrounded": figures(None),
        "t2m_ranks": retrieval_metrics.ranks(similarity, alike, ties),
        "m2t_ranks": retrieval_metrics.ranks(similarity.T, alike, ties),
    }


def project_of(case: Case) -> tuple[Path, Corpus]:
    """The project's folder and its dataset."""
    folder = case.folder / case.config["project"]
    return folder, Corpus(folder / "datasets" / "annotations" / "humanml3d")


def run_of(case: Case) -> TMR:
    """The project's model, which reads the saved word features."""
    folder, data = project_of(case)
    return load_tmr(folder / case.config["run_dir"], text_encoder=saved_beside(data.folder, WORDS, "distilbert"))


def loader(case: Case) -> dict[str, Any]:
    _, data = project_of(case)
    split = case.config["split"]
    words = saved_beside(data.folder, WORDS, "distilbert")
    if "items" in case.config:
        return first_batch(case, data, words)
    captioned = data.captioned(split)
    found = {"keyids": [data.names[clip] for clip in captioned], "len": len(captioned)}
    if case.config["caption"] == "random":
        return {"split": {**found, "nb_annotations_kept": [len(captions) for captions in captioned.values()]}}
    items, _ = captioned_motions(data, split, ANY_LENGTH)
    texts = [item.captions[0].text for item in items]
    return {"split": {
        **found, "length": [len(item.motion) for item in items], "text": texts,
        "text_length": words.encode(texts).mask.sum(1),
    }}  # fmt: skip


def first_batch(case: Case, data: Corpus, words) -> dict[str, Any]:
    model = run_of(case)
    items = [captioned_motions(data, case.config["split"], ANY_LENGTH)[0][i] for i in case.config["items"]]
    normalised = [model.normalise(torch.as_tensor(np.array(item.motion, np.float32))).numpy() for item in items]
    batch = collate([TrainingItem(x, item.captions[0].text, item.name, i) for i, (x, item) in enumerate(zip(normalised, items))])
    text = words.encode(batch.texts)
    return {"motion_x": batch.motion, "motion_mask": batch.mask, "motion_len": batch.lengths,
            "text_mask": text.mask, "text_len": text.mask.sum(1)}  # fmt: skip


def cosine_matrix(case: Case) -> dict[str, Any]:
    split = case.config["split"]
    judge = TextMotionSpace(run_of(case))
    items, _ = captioned_motions(project_of(case)[1], split, judge.frame_limits)
    return {"sim_matrix": similarities_of(items, judge).similarity}


def retrieval(case: Case) -> dict[str, Any]:
    folder, data = project_of(case)
    asked = case.config["arguments"]
    with tempfile.TemporaryDirectory() as output, contextlib.redirect_stdout(io.StringIO()):
        report = evaluate(RetrievalOptions(
            model_path=folder / asked["run_dir"], dataset=str(data.folder), protocol=asked["protocol"],
            threshold=asked["threshold"], device=asked["device"], output_dir=Path(output) / "out"))  # fmt: skip
        texts = {name: (Path(output) / "out" / yaml_name(name)).read_text() for name in report["protocols"]}
    rows = [latex_row(figures) for figures in report["protocols"].values()]
    return {**texts, "metrics": yaml_text(next(iter(report["protocols"].values()))), "rows": rows}


def tool(case: Case) -> dict[str, Any]:
    """The command as a user runs it, beside the project's run folder."""
    folder, asked = case.folder / case.config["project"], case.config["arguments"]
    flags = ["--run_dir", str(folder / asked["run_dir"]), "--device", asked["device"]]
    for name, value in (("text", asked.get("text")), ("npy", asked.get("npy") and str(folder / asked["npy"]))):
        flags += [f"--{name}", value] if value else []
    printed = io.StringIO()
    with tempfile.TemporaryDirectory() as output, contextlib.redirect_stdout(printed):
        latent = Path(output) / "latent.npy"
        retrieve([case.config["tool"], *flags, *(["--output", str(latent)] if case.config["produces"] else [])])
        return {"latent": np.load(latent)} if latent.is_file() else {"stdout": printed.getvalue().rstrip("\n")}


def encode_dataset(case: Case) -> dict[str, Any]:
    items, _ = captioned_motions(project_of(case)[1], case.config["split"], ANY_LENGTH)
    latents = run_of(case).encode_motion([item.motion for item in items]).numpy()
    names = [item.name for item in items]
    return {
        "latents": latents, "unit": unit_rows(latents),
        "keyids_index": {name: i for i, name in enumerate(names)},
        "index_keyids": {str(i): name for i, name in enumerate(names)},
    }  # fmt: skip


TOOLS = {
    "retrieval": retrieval,
    "encode_motion": tool,
    "encode_text": tool,
    "text_motion_sim": tool,
    "encode_dataset": encode_dataset,
}

HANDLERS = {
    "metrics": metrics,
    "loader": loader,
    "retrieval": cosine_matrix,
    "tools": lambda case: TOOLS[case.config["tool"]](case),
}
