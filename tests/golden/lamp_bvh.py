"""Golden cases of the published way from joints to BVH: template, foot cleaning, solver, file."""

from typing import Any

import numpy as np

from tests.golden.runner import Case
from tests.golden.tmr_model import require_ours
from visualize import published_bvh
from visualize.published_bvh import clean_feet, template

OUR_SOLVER = {
    "initial_rotation": "identity", "root_initialisation": "none", "division_guard": published_bvh.GUARD,
    "several_children": "exp(mean(log q))", "rotation_update": "q_j = q_j * average", "number_format": "%f",
}  # fmt: skip
OUR_FEET = {"blend_frames": published_bvh.BLEND, "root_position": "uncleaned", "run_position": "mean over the run, y = 0"}


def template_parts(case: Case) -> dict[str, Any]:
    body = template()
    return {"names": np.array(body.names), "offsets": np.array(body.offsets), "parents": np.array(body.parents),
            "re_order": np.array(body.order), "re_order_inv": body.back}  # fmt: skip


def foot_cleaning(case: Case) -> dict[str, Any]:
    require_ours(case.config["foot"], OUR_FEET)
    joints = np.asarray(case.inputs["joints"], np.float64)
    return {"cleaned": clean_feet(joints[:, np.asarray(case.inputs["re_order"])])}


def joints_to_bvh(case: Case) -> dict[str, Any]:
    config = case.config
    require_ours(config, OUR_SOLVER)
    if config["foot_ik"]:
        require_ours(config["foot"], OUR_FEET)
    made = published_bvh.published_bvh(case.inputs["joints"], config["fps"], config["iterations"], config["foot_ik"])
    return {"joints_out": made.joints, "rotations": made.rotations, "bvh": made.text}


HANDLERS = {"template": template_parts, "foot_cleaning": foot_cleaning, "joints_to_bvh": joints_to_bvh}
