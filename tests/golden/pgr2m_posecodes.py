"""Golden cases of pose codes: the table, values, bins, jitter, tokens."""

from typing import Any

import numpy as np
import torch

from data_loaders.pose_code_table import STRIDE, TURNED, Group, pose_code_table
from data_loaders.pose_codes import (
    HAND,
    SHORTEST,
    codes_from_values,
    every_token,
    extended_joints,
    jitter_draws,
    pose_codes,
    pose_values,
    token_codes,
)
from tests.golden.runner import Case
from tests.golden.tmr_model import require_ours

OURS = {"half_turn": {"negate_axes": [0, 2]}, "middle2_factor": HAND, "norm_floor": SHORTEST, "nan_bin": "last", "unit": "metre",
        "bin_rule": "smallest i with value <= threshold[i], else last", "angle_unit": "degree"}  # fmt: skip
OUR_JITTER = {"amplitude": "jitter_max of the group", "noise": "(2u-1)*amplitude"}


def require_our_rules(config: dict[str, Any]) -> None:
    require_ours(config, OURS)
    require_ours(config.get("jitter") or {}, OUR_JITTER)
    if own := config.get("smpl_from_kit"):
        joints = dict(enumerate(pose_code_table().file.kit_joints))
        require_ours(own, {"mapping": [[a, b] for a, b in joints.items() if b >= 0], "scale": 1, "missing_value": 0})


def group_record(group: Group) -> dict[str, Any]:
    table = pose_code_table()
    official, own = table.pair(group), table.pair(group, official=False)
    return {
        "group": group.number, "category": group.kind.name, "operator": group.kind.operator, "joints": list(group.joints),
        "joint_ids": [table.file.joints.index(joint) for joint in group.joints], "n_bins": group.bins, "first": group.first,
        "last": group.first + group.bins - 1, "thresholds": list(group.kind.thresholds), "unit": group.kind.unit,
        "jitter_max": group.kind.jitter, "official_name": official, "geometric_name": own,
        "name_matches_geometry": official == own, "official_full_name": f"{official} {group.kind.name}",
    }  # fmt: skip


def code_record(code: int) -> dict[str, Any]:
    table = pose_code_table()
    group = table.groups[table.group_of[code]]
    place, bounds = code - group.first, (None, *group.kind.thresholds, None)
    interval = [bounds[place], bounds[place + 1]]
    record = {
        "index": code, "group": group.number, "category": group.kind.name, "joints": list(group.joints), "bin": place,
        "bin_label": group.kind.labels[place], "interval": interval, "unit": group.kind.unit,
        "official_name": f"{table.pair(group)} {group.kind.labels[place]}", "edit_name": table.official_name(code),
    }  # fmt: skip
    if group.kind.name in TURNED:
        axis = group.kind.name[-1].lower()
        record["interval_in_dataset_frame"] = [None if bound is None else -bound for bound in reversed(interval)]
        record["dataset_frame_note"] = f"{axis}(A)-{axis}(B) in new_joints coordinates; lower bound inclusive, upper exclusive"
    return record


def table(case: Case) -> dict[str, Any]:
    ours = pose_code_table()
    require_ours(case.config, {"codes": ours.width, "groups": len(ours.groups), "end_index": ours.width})
    return {"groups": [group_record(group) for group in ours.groups], "codes": [code_record(code) for code in range(ours.width)]}


def values(case: Case) -> dict[str, Any]:
    require_our_rules(case.config)
    joints = torch.as_tensor(case.inputs["joints"])
    return {"values": pose_values(joints), "extended_joints_frame0": extended_joints(joints)[0]}


def codes(case: Case) -> dict[str, Any]:
    require_our_rules(case.config)
    joints, uniform = torch.as_tensor(case.inputs["joints"]), case.inputs.get("uniform")
    found = pose_codes(joints, uniform)
    if not torch.equal(token_codes(joints, uniform), every_token(found)):
        raise ValueError("codes of tokens are not those of their first frames")
    return {"codes": found}


def binning(case: Case) -> dict[str, Any]:
    require_our_rules(case.config)
    given, uniform = torch.as_tensor(case.inputs["values"]), case.inputs["uniform"]
    return {"codes_deterministic": codes_from_values(given), "codes_jittered": codes_from_values(given, uniform)}


def draws(case: Case) -> dict[str, Any]:
    require_ours(case.config, {"generator": "torch_cpu", "distribution": "uniform [0,1)", "dtype": "float32"})
    return {"uniform": jitter_draws(case.config["frames"], torch.Generator().manual_seed(case.config["seed"]))}


def subsample(case: Case) -> dict[str, Any]:
    require_ours(case.config, {"stride": STRIDE, "offset": 0, "frames_cut_to_multiple_of": STRIDE})
    return {"codes_det_down4": every_token(torch.as_tensor(np.asarray(case.inputs["codes"])))}


HANDLERS = {
    "posecode_table": table, "posecode_values": values, "posecodes_from_joints": codes, "posecodes_from_values": binning,
    "jitter_draws": draws, "subsample_codes": subsample,
}  # fmt: skip
