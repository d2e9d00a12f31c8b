"""Golden cases of editing pose codes, and of the errors of joints that edits and tokenizers are judged by."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_loaders.edit_grammar import parse_edits
from data_loaders.pose_code_table import pose_code_table
from data_loaders.pose_codes import codes_from_indices, indices_from_codes
from data_loaders.pose_edits import Reply, apply_edits, apply_replies, with_codes
from evaluations.metrics import acceleration_error, aligned_mpjpe, joint_distances
from tests.golden.runner import Case
from tests.golden.tmr_model import require_ours


def tensor(case: Case, name: str) -> Tensor:
    return torch.as_tensor(np.asarray(case.inputs[name]))


def to_index(case: Case) -> dict[str, Any]:
    return {"index": indices_from_codes(tensor(case, "codes"))}


def to_codes(case: Case) -> dict[str, Any]:
    return {"codes": codes_from_indices(tensor(case, "index"))}


def reply(case: Case) -> dict[str, Any]:
    require_ours(case.config, {
        "pair_by": "position in groups", "apply_if": "group in located_groups", "range_inclusive": True, "invalid_range": "skip",
        "range_clamped_to_sequence": True, "sequence_indexed_by": "token", "sequence_values": "code index",
    })  # fmt: skip
    given = case.inputs
    located = {int(group) for group in given["located_groups"]}
    asked = zip(given["groups"], given["sequences"], given["ranges"])
    replies = [Reply(int(group), [int(code) for code in codes], int(start), int(stop))
               for group, codes, (start, stop) in asked if int(group) in located]  # fmt: skip
    index, refused = apply_replies(tensor(case, "source_index"), replies)
    require_ours({"refused": len(refused)}, {"refused": case.config.get("refused", 0)})
    return {"index": index, "codes": codes_from_indices(index)}


def set_range(case: Case) -> dict[str, Any]:
    require_ours(case.config, {"range_inclusive": True, "sequence_indexed_by": "offset in the range"})
    start, stop = case.config["range"]
    codes = [int(code) for code in case.inputs["sequence"]][: stop - start + 1]
    return {"index": with_codes(tensor(case, "source_index"), case.config["group"], codes, start)}


def set_by_name(case: Case) -> dict[str, Any]:
    require_ours(case.config, {"name_field": "edit_name", "time": "all"})
    names = case.config["names"]
    require_ours(case.config, {"code_indices": [pose_code_table().official_codes[name] for name in names]})
    edits = parse_edits("; ".join(f'set "{name}"' for name in names))
    return {"codes": apply_edits(tensor(case, "source_codes"), edits, consistent=False).codes}


def joint_metrics(case: Case) -> dict[str, Any]:
    config = case.config
    require_ours(config, {"factor": 1, "align_per_frame": True, "root_joint": 0})
    require_ours(config["pampjpe"], {"per_frame": True, "scale": True, "reflection": False, "fit": "pred to gt"})
    require_ours(config["accel"], {"difference": "second", "joint_reduction": "mean", "root_alignment": False})
    found: dict[str, list] = {"mpjpe": [], "pampjpe": [], "accel": [], "jpe": []}
    root = 0 if config["align_root"] else None
    for gt, pred, length in zip(case.inputs["gt"], case.inputs["pred"], config["lengths"]):
        gt, pred = gt[:length], pred[:length]
        error = joint_distances(gt, pred, root)  # (T, J)
        found["mpjpe"].append(error.mean())
        found["jpe"].append(error.mean(0))
        found["pampjpe"].append(aligned_mpjpe(gt, pred).mean())
        found["accel"].append(acceleration_error(gt, pred).mean())
    return {name: np.reshape(each, np.shape(case.expected[name])) for name, each in found.items()}


HANDLERS = {
    "codes_to_index": to_index, "index_to_codes": to_codes, "apply_reply": reply, "set_range": set_range,
    "set_by_name": set_by_name, "joint_metrics": joint_metrics,
}  # fmt: skip
