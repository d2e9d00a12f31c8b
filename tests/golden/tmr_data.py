"""Golden cases of what TMR reads: spans of files, padding, normalisation, whole-file features, text features."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_loaders import guoh3dfeats
from data_loaders.annotated_clips import parse_annotations, within_seconds
from data_loaders.batches import TrainingItem
from data_loaders.batches import collate as collate_items
from data_loaders.corpus import cut_span
from data_loaders.features import Statistics
from data_loaders.humanml_features import joints_from_features
from data_loaders.skeleton import load_skeleton
from model.layers import EPS
from model.mpnet_tower import load_mpnet
from model.text_encoders import SavedTexts, TextEncoder
from model.text_towers import load_bert
from model.tmr import TMR
from model.tmr_config import TMRConfig
from tests.golden import references
from tests.golden.columns import Columns
from tests.golden.runner import Case
from tests.golden.tmr_model import require_ours
from tests.saved_texts import save_text_features

PATHS = {"amass": "KIT/3/some_file", "humanact12": "humanact12/humanact12/some_file"}


def collate(case: Case) -> dict[str, Any]:
    batch = collate_items([TrainingItem(case.inputs[name], "", name, i) for i, name in enumerate(case.config["items"])])
    return {"x": batch.motion, "mask": batch.mask, "length": batch.lengths}


def crop(case: Case) -> dict[str, Any]:
    rows = []
    for span in case.inputs["spans"]:
        start, end = (span[name] for name in case.config["span_fields"])
        piece = cut_span(case.inputs["motion"], start, end, case.config["fps"])
        first, last = (int(piece[0, 0]), int(piece[-1, 0])) if len(piece) else (None, None)
        rows.append({"start": start, "end": end, "first_frame": first, "last_frame": last, "length": len(piece)})
    return {"rows": rows}


def crop_disabled(case: Case) -> dict[str, Any]:
    config = case.config
    return {"out": {"x": config["path"], "length": int(config["fps"] * (config["end"] - config["start"]))}}


def normalizer(case: Case) -> dict[str, Any]:
    require_ours(case.config, {"eps": EPS})
    mean, std, x = (case.inputs[name] for name in ("mean", "std", "x"))
    config = TMRConfig(features=Columns(count=len(mean)), latent_dim=4, num_layers=1, num_heads=1, max_positions=8)
    model = TMR(config, Statistics(mean, std, config.features))
    normalised = model.normalise(torch.as_tensor(x))
    return {"normalised": normalised, "back": model.denormalise(normalised)}


def filter_annotations(case: Case) -> dict[str, Any]:
    files = parse_annotations(case.inputs["annotations"])
    limits = case.config["min_seconds"], case.config["max_seconds"]
    kept = {key: within_seconds(file.annotations, *limits) for key, file in files.items()}
    return {"kept": {key: [a.seg_id for a in annotations] for key, annotations in kept.items() if annotations}}


DATA = {
    "data/collate": collate,
    "data/crop": crop,
    "data/crop_disabled": crop_disabled,
    "data/normalizer": normalizer,
    "data/filter_annotations": filter_annotations,
}


def features(case: Case) -> dict[str, Any]:
    config = case.config
    values = {name: torch.as_tensor(value) for name, value in case.inputs.items()}
    if "route" in config:
        made = guoh3dfeats.file_features(values["pose_data"], PATHS[config["route"]], mirror=config["mirror"],
                                         tgt_offsets=values["tgt_offsets"])
        return {"features": made}
    if "recover" in config:
        x, y, z = joints_from_features(values["features"], load_skeleton("humanml")).unbind(-1)
        return {"joints": torch.stack([x, -z, y], dim=-1)}  # TMR draws with Z up
    joints = guoh3dfeats.reflected(values["joints"], PATHS["amass" if config["negate_x"] else "humanact12"])
    return {"mirrored": guoh3dfeats.mirrored(joints)}


def tower_of(case: Case) -> TextEncoder:
    """The case's text encoder; its texts are never cut and never cached."""
    config = case.config
    folder, limit = references.path_of(case.folder, config["folder"]), 10**6
    if config["architecture"] == "mpnet":
        return TextEncoder("mpnet", config["hidden"], lambda: load_mpnet(folder, limit))
    return TextEncoder("distilbert", config["hidden"], lambda: load_bert(folder, limit, sentence=False))


def text(case: Case) -> dict[str, Any]:
    config, texts, encoder = case.config, case.inputs["texts"], tower_of(case)
    if "suffixes" in config:
        return saved(texts, encoder, words=config["architecture"] == "distilbert")
    if config["architecture"] == "mpnet":
        used = config["texts_used"]
        return {name: encoder.encode([texts[i] for i in rows]).pooled[slice(None) if len(rows) > 1 else 0]
                for name, rows in used.items()}
    chosen = [texts[i] for i in config["texts_used"]]
    features = encoder.encode(chosen)
    return {
        "input_ids": features.ids,
        "attention_mask": features.mask.long(),
        "token_emb": features.tokens if len(chosen) > 1 else features.tokens[0],
        "token_len": features.mask.sum(1),
    }


def saved(texts: list[str], encoder: TextEncoder, words: bool) -> dict[str, Any]:
    """What files of text features hold after they were written and read."""
    with tempfile.TemporaryDirectory() as folder:
        save_text_features(Path(folder) / "hub" / "name", texts, encoder, words)
        back = SavedTexts.load(Path(folder) / "hub" / "name")
        array = np.array(back.array)
    if back.slices is None:
        return {"array": {"index": back.index, "rows": array}, "index": back.index}
    return {
        "array": {"index": back.index, "rows": array, "slices": back.slices},
        "slices": {"index": back.index, "rows": back.slices},
        "index": back.index,
    }


HANDLERS = {"data": lambda case: DATA[case.name](case), "features": features, "text": text}
