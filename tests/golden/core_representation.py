"""Golden cases of the motion representation: skeletons, rotations, features, mirroring, statistics."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from data_loaders import feature_statistics, headings, humanml_features
from data_loaders.features import Features, humanml_blocks
from data_loaders.skeleton import Skeleton, load_skeleton
from tests import published_rotations, rotations
from tests.golden import references
from tests.golden.runner import Case

PHYSICAL = 0.0, 1.0
OUR_SMOOTHING = {"smooth_sigma_frames": headings.SMOOTHING_SIGMA, "smooth_mode": "nearest", "smooth_truncate": 4.0}


def case_skeleton(case: Case) -> Skeleton:
    """Our skeleton of the case's name, with the tree, directions and threshold that the case's own file states."""
    reference = case.config["skeleton"]
    record = references.load(case.folder, reference)
    face = record["face_joints"]
    return replace(
        load_skeleton(reference.rpartition("/")[2]),
        parents=tuple(record["parents"]),
        chains=tuple(tuple(chain) for chain in record["chains"]),
        raw_offsets=tuple(tuple(offset) for offset in record["raw_offsets"]),
        face_joints=tuple(face[name] for name in ("right_hip", "left_hip", "right_shoulder", "left_shoulder")),
        left_feet=tuple(record["left_feet"]),
        right_feet=tuple(record["right_feet"]),
        leg_joints=tuple(record["leg_length_joints"]),
        contact_threshold=case.config.get("contact_threshold", record["contact_threshold"]),
    )


def check_smoothing(config: dict[str, Any]) -> None:
    """Smoothing is a constant of the representation: a case that asks for another one must not pass by accident."""
    for name, ours in OUR_SMOOTHING.items():
        if config.get(name, ours) != ours:
            raise ValueError(f"the case has {name} {config[name]}, the features {ours}")


def tensors(case: Case) -> dict[str, Tensor]:
    return {name: torch.as_tensor(np.asarray(value)) for name, value in case.inputs.items()}


def outputs(case: Case, *values: Tensor) -> dict[str, np.ndarray]:
    """Values under the names of the case's expected outputs, in their order."""
    return {name: value.numpy() for name, value in zip(case.expected, values, strict=True)}


def target_offsets(case: Case) -> dict[str, np.ndarray]:
    joints = tensors(case)["first_frame_joints"][: case.config["joints_used"]]
    return outputs(case, published_rotations.offsets_from_joints(joints, case_skeleton(case)))


def offsets_first_frame_and_per_frame(case: Case) -> dict[str, np.ndarray]:
    offsets = published_rotations.offsets_from_joints(tensors(case)["joints"], case_skeleton(case))
    return {"offsets_first_frame": offsets[0].numpy(), "offsets_per_frame": offsets.numpy()}


def inverse_kinematics(case: Case) -> dict[str, np.ndarray]:
    check_smoothing(case.config)
    quaternions = published_rotations.inverse_kinematics(
        tensors(case)["joints"], case_skeleton(case), smooth_forward=case.config["smooth_forward"]
    )
    sixd = rotations.quaternion_to_6d(quaternions)
    return {name: (sixd if "6d" in name else quaternions).numpy() for name in case.expected}


def forward_kinematics(case: Case) -> dict[str, np.ndarray]:
    values, config = tensors(case), case.config
    from_form = {"quaternion_wxyz": rotations.quaternion_to_matrix, "6D_columns": rotations.sixd_to_matrix}
    place = config["root_position"]
    joints = published_rotations.forward_kinematics(
        from_form[config["rotation"]](values["rotations"]),
        values[place["key"]][..., place["joint"], :],
        values["offsets"],
        case_skeleton(case),
        root_rotation=config["do_root_R"],
    )
    return outputs(case, joints)


def features_from_joints(case: Case) -> dict[str, np.ndarray]:
    """The published features and, where the case asks, the stages on the way to them."""
    check_smoothing(case.config)
    if not case.config["compat"]:
        raise ValueError("the original features exist with all their quirks only (compat)")
    values, skeleton = tensors(case), case_skeleton(case)
    joints, target = values["joints"][: case.config["frames"]], values["tgt_offsets"]
    features = humanml_features.features_from_joints(joints, skeleton, "published", target)
    canonical = humanml_features.canonicalise([joints], skeleton, "published", target)
    velocity = humanml_blocks(skeleton.num_joints)["root_velocity"]
    stages = {
        "features": features,
        "uniform_skeleton": published_rotations.uniform_skeleton(joints, skeleton, target),
        "global_positions": published_rotations.canonical_joints([joints], skeleton, "published", target)[0],
        "local_positions": published_rotations.local_positions(canonical),
        "root_lin_vel": features[:, velocity],
    }
    return {name: stages[name].numpy() for name in case.expected}


def joints_from_features(case: Case) -> dict[str, np.ndarray]:
    values, skeleton = tensors(case), case_skeleton(case)
    quaternion, position = published_rotations.root_from_features(values["features"])
    results = {
        "root_quat": quaternion,
        "root_pos": position,
        "recover_from_ric": humanml_features.joints_from_features(values["features"], skeleton),
        "recover_from_rot": published_rotations.joints_from_rotations(values["features"], skeleton, values["tgt_offsets"]),
    }
    return {name: results[name].numpy() for name in case.expected}


def mirror_joints(case: Case) -> dict[str, np.ndarray]:
    swap, hands = case.config["swap"], case.config.get("swap_hands", {})
    skeleton = replace(
        load_skeleton("humanml"),
        left_joints=tuple(swap["left"]),
        right_joints=tuple(swap["right"]),
        left_hand=tuple(hands.get("left", ())),
        right_hand=tuple(hands.get("right", ())),
    )
    return outputs(case, humanml_features.mirror_joints(tensors(case)["joints"], skeleton))


def features_of(width: int) -> Features:
    return {263: Features("humanml", 20.0, "published"), 251: Features("kit", 12.5, "published")}[width]


def mean_std(case: Case) -> dict[str, np.ndarray]:
    mean, std = feature_statistics.mean_std(case.inputs.values(), features_of(next(iter(case.inputs.values())).shape[-1]))
    return {"mean": mean, "std": std}


def feat_bias(case: Case) -> dict[str, np.ndarray]:
    std, config = case.inputs["std"], case.config
    return {
        name: feature_statistics.with_feature_bias(std, features_of(len(std)), config["feat_bias"], times)
        for name, times in config["applications"].items()
    }


def dataset_to_evaluator(case: Case) -> dict[str, np.ndarray]:
    given = case.inputs
    dataset = (given["dataset_mean"], given["dataset_std"])
    evaluator = (given["evaluator_mean"], given["evaluator_std"])
    return {
        "features": feature_statistics.renormalise(given["dataset_normalised"], dataset, PHYSICAL),
        "evaluator_normalised": feature_statistics.renormalise(given["dataset_normalised"], dataset, evaluator),
    }


def rotation(function):
    """A handler for one function of `rotations`, applied to the case's inputs in order."""
    return lambda case: outputs(case, function(*tensors(case).values()))


def euler_to_quaternion(case: Case) -> dict[str, np.ndarray]:
    return outputs(case, rotations.euler_to_quaternion(tensors(case)["euler"], case.config["order"]))


def quaternion_to_euler(case: Case) -> dict[str, np.ndarray]:
    return outputs(case, rotations.quaternion_to_euler(tensors(case)["q"], case.config["order"]))


def sign_continuity(case: Case) -> dict[str, np.ndarray]:
    return outputs(case, rotations.qfix(tensors(case)["q"], dim=case.config["time_axis"]))


HANDLERS = {
    "target_offsets": target_offsets,
    "offsets_first_frame_and_per_frame": offsets_first_frame_and_per_frame,
    "inverse_kinematics": inverse_kinematics,
    "forward_kinematics": forward_kinematics,
    "features_from_joints": features_from_joints,
    "joints_from_features": joints_from_features,
    "mirror_joints": mirror_joints,
    "mean_std": mean_std,
    "feat_bias": feat_bias,
    "dataset_to_evaluator": dataset_to_evaluator,
    "conjugate": rotation(rotations.qconj),
    "normalise": rotation(rotations.qnormalize),
    "hamilton_product": rotation(rotations.qmul),
    "rotate_vector": rotation(rotations.qrotate),
    "shortest_arc": rotation(rotations.qbetween),
    "quaternion_to_matrix": rotation(rotations.quaternion_to_matrix),
    "quaternion_to_6D": rotation(rotations.quaternion_to_6d),
    "6D_to_matrix": rotation(rotations.sixd_to_matrix),
    "6D_to_quaternion": rotation(rotations.sixd_to_quaternion),
    "matrix_to_quaternion": rotation(rotations.matrix_to_quaternion),
    "euler_to_quaternion": euler_to_quaternion,
    "quaternion_to_euler": quaternion_to_euler,
    "exponential_map_to_quaternion": rotation(rotations.axis_angle_to_quaternion),
    "sign_continuity": sign_continuity,
}
