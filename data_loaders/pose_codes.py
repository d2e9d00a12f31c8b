"""What a pose is, as 392 yes-or-no codes: how limbs bend, how far joints are apart, which is higher, more to the left, before the
other. CoMo and PGR2M make motion of them, and edit motion by them (data_loaders/pose_edits.py).

Joints are (..., T, 22, 3) in metres, Y up, the first frame facing +Z; KIT's 21 are taken too. Codes are (..., T, 392), exactly
one of each group of the table (data_loaders/pose_code_table.py); all frames are read at once. A token holds the codes of the
first of its 4 frames. Delmas et al. 2022 (PoseScript), Huang et al. 2024 (CoMo). """

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from data_loaders.corpus import Motion
from data_loaders.motion_semantics import body_axes
from data_loaders.pose_code_table import KINDS, RATES, STRIDE, pose_code_table
from data_loaders.skeleton import ALIASES

HAND = 0.1367  # metres from the wrist to the root of the middle finger
SHORTEST = 1e-12  # metres, below which a direction is not known
MIDDLE_FINGERS = (26, 41)  # of SMPL-H's 52 joints
AXES = {"relX": 0, "relY": 1, "relZ": 2}


@dataclass(frozen=True)
class _Indices:
    """Of a kind on a device: joints of each group (columns), and the bounds of its bins."""

    joints: tuple[Tensor, ...]
    thresholds: Tensor


@lru_cache(maxsize=32)
@torch.inference_mode(False)
def _indices(device: torch.device, dtype: torch.dtype) -> dict[str, _Indices]:
    file = pose_code_table().file
    place = {name: k for k, name in enumerate(file.joints)}
    return {
        kind.name: _Indices(
            tuple(torch.tensor([place[name] for name in each], device=device) for each in zip(*kind.groups)),
            torch.tensor(kind.thresholds, dtype=dtype, device=device),
        )
        for kind in file.kinds
    }


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _firsts(device: torch.device) -> Tensor:
    """First code (70,) of each group."""
    return torch.tensor([group.first for group in pose_code_table().groups], device=device)


@lru_cache(maxsize=8)
@torch.inference_mode(False)
def _jitter(device: torch.device, dtype: torch.dtype) -> Tensor:
    """How far (70,) each value may be moved."""
    return torch.tensor([group.kind.jitter for group in pose_code_table().groups], dtype=dtype, device=device)


# ------------------------------------------------------------------------------------------------------------------------ values


def extended_joints(joints: Tensor | np.ndarray) -> Tensor:
    """Joints (..., T, 27, 3) that codes are read from: the body's, turned by 180 degrees about Y, then middle fingers, hands and
    torso. ValueError for another number of joints than 22, KIT's 21, or 52 and more of SMPL-H, whose own fingers are taken."""
    joints = torch.as_tensor(joints)
    joints = joints if joints.dtype == torch.float64 else joints.float()
    count = joints.shape[-2] if joints.ndim >= 3 and joints.shape[-1] == 3 else 0
    if count not in (21, 22) and count < 52:
        raise ValueError(f"joints have shape {tuple(joints.shape)}, pose codes are read from (..., frames, 22, 3) of humanml, "
                         "21 of kit, or 52 and more of SMPL-H")  # fmt: skip
    turned = joints * joints.new_tensor((-1.0, 1.0, -1.0))
    body = _of_kit(turned) if count == 21 else turned[..., :22, :]
    wrists, elbows = body[..., 20:22, :], body[..., 18:20, :]
    middle = turned[..., list(MIDDLE_FINGERS), :] if count >= 52 else wrists + HAND * _unit(wrists - elbows)
    torso = (body[..., 0:1, :] + body[..., 12:13, :] + body[..., 9:10, :]) / 3
    return torch.cat([body, middle, 0.5 * (wrists + middle), torso], dim=-2)


def _of_kit(joints: Tensor) -> Tensor:
    """KIT's joints (..., 21, 3) in the places of the 22, as published: collars and head, which it lacks, lie in the origin,
    ankles are the middles of the feet, and its left arm is in the place of the right."""
    order = torch.tensor(pose_code_table().file.kit_joints, device=joints.device)
    return joints.index_select(-2, order.clamp_min(0)) * (order >= 0).to(joints.dtype)[:, None]


def pose_values(joints: Tensor | np.ndarray) -> Tensor:
    """Values (..., T, 70) of the groups, in degrees and metres. relX and relZ are along the turned axes, as in the table; those
    of the ground are heights above the lowest joint of the frame, so that somebody who jumps stands on the ground."""
    body = extended_joints(joints)
    indices = _indices(body.device, body.dtype)

    def vectors(kind: str, end: int = 0, start: int = 1) -> Tensor:
        of = indices[kind].joints
        return body.index_select(-2, of[end]) - body.index_select(-2, of[start])  # (..., T, groups, 3)

    cosine = (_unit(vectors("angle", 2)) * _unit(vectors("angle"))).sum(-1)
    height = body[..., 1]
    upright = _unit(vectors("relV"))[..., 1].abs()
    along = [_along(body, indices[kind], axis) for kind, axis in AXES.items()]
    lifted = height.index_select(-1, indices["ground"].joints[0]) - height.amin(-1, keepdim=True)
    return torch.cat([_degrees(cosine), vectors("distance").norm(dim=-1), *along, _degrees(upright), lifted], dim=-1)


def _along(body: Tensor, indices: _Indices, axis: int) -> Tensor:
    """How much further along an axis the first joint of each group is."""
    place = body[..., axis]
    return place.index_select(-1, indices.joints[0]) - place.index_select(-1, indices.joints[1])


def _unit(vectors: Tensor) -> Tensor:
    return vectors / vectors.norm(dim=-1, keepdim=True).clamp_min(SHORTEST)


def _degrees(cosine: Tensor) -> Tensor:
    """Clamped, unlike the original's, which calls a segment that is vertical to the last digit horizontal."""
    return cosine.clamp(-1.0, 1.0).acos().rad2deg()


# ------------------------------------------------------------------------------------------------------------------------- codes


def jitter_draws(frames: int, generator: torch.Generator) -> Tensor:
    """Uniform numbers (T, 70) in [0, 1) of a clip, by which its values are moved: a draw for each kind, as published."""
    return torch.cat([torch.rand(frames, len(kind.groups), generator=generator) for kind in pose_code_table().file.kinds], -1)


def codes_from_values(values: Tensor | np.ndarray, uniform: Tensor | np.ndarray | None = None) -> Tensor:
    """Codes (..., T, 392) bool of values (..., T, 70). uniform: draws of `jitter_draws`, by which values move, in codes for
    training.

    A value belongs to the first bin whose upper bound it does not exceed, NaN to the last.
    """
    values = torch.as_tensor(values)
    if uniform is not None:
        uniform = torch.as_tensor(uniform, device=values.device)
        values = values + (2 * uniform - 1) * _jitter(values.device, uniform.dtype)
    indices, sizes = _indices(values.device, values.dtype), [len(kind.groups) for kind in pose_code_table().file.kinds]
    bins = [torch.bucketize(own.contiguous(), indices[kind].thresholds) for kind, own in zip(KINDS, values.split(sizes, dim=-1))]
    return codes_from_indices(torch.cat(bins, -1) + _firsts(values.device))


def pose_codes(joints: Tensor | np.ndarray, uniform: Tensor | np.ndarray | None = None) -> Tensor:
    """Codes (..., T, 392) bool of every frame; uniform: see `codes_from_values`, None for those of the pose itself."""
    return codes_from_values(pose_values(joints), uniform)


def every_token(frames: Tensor) -> Tensor:
    """Of (..., T, C) the first of every 4 frames (..., T // 4, C); what does not fill a token is left out.

    ValueError for fewer than 4 frames.
    """
    count = frames.shape[-2] // STRIDE
    if not count:
        raise ValueError(f"{frames.shape[-2]} frames, expected {STRIDE} or more: so many make a token")
    return frames[..., : count * STRIDE : STRIDE, :]


def token_codes(joints: Tensor | np.ndarray, uniform: Tensor | np.ndarray | None = None) -> Tensor:
    """Codes (..., T // 4, 392) of tokens, of joints (..., T, 22, 3); other frames are not read. uniform: (..., T, 70).

    ValueError for fewer than 4 frames or other joints.
    """
    joints = torch.as_tensor(joints)
    if joints.ndim < 3:
        raise ValueError(f"joints have shape {tuple(joints.shape)}, expected (..., frames, 22, 3)")
    read = every_token(joints.flatten(-2)).unflatten(-1, joints.shape[-2:])
    return pose_codes(read, None if uniform is None else every_token(torch.as_tensor(uniform)))


def codes_from_indices(indices: Tensor) -> Tensor:
    """Codes (..., N, 392) bool of the codes that are set, (..., N, 70) by number."""
    codes = torch.zeros(*indices.shape[:-1], pose_code_table().width, dtype=torch.bool, device=indices.device)
    return codes.scatter_(-1, indices.long(), True)


def indices_from_codes(codes: Tensor | np.ndarray) -> Tensor:
    """Numbers (..., N, 70) of the codes that are set. ValueError, naming group and token, where one has none or several."""
    codes, table = torch.as_tensor(codes) != 0, pose_code_table()
    if codes.ndim < 2 or codes.shape[-1] != table.width:
        raise ValueError(f"codes have shape {tuple(codes.shape)}, expected (..., tokens, {table.width})")
    own = codes.split([group.bins for group in table.groups], dim=-1)
    set_ = torch.stack([each.sum(-1) for each in own], -1)  # (..., N, 70)
    if (set_ != 1).any():
        *_, token, number = torch.nonzero(set_ != 1)[0].tolist()
        raise ValueError(f"token {token} has {set_[..., token, number].flatten()[0].item()} codes of group {number} "
                         f"({table.groups[number].key}), expected exactly one")  # fmt: skip
    return torch.stack([each.long().argmax(-1) for each in own], -1) + _firsts(codes.device)


# ----------------------------------------------------------------------------------------------------------------------- motions


def facing_forward(joints: Tensor | np.ndarray) -> Tensor:
    """Joints (..., T, 22, 3) turned about Y so that everybody faces +Z in the first frame, the left side at +X: how codes,
    which are of the world, are read."""
    joints = torch.as_tensor(joints)
    right, up, forward = body_axes(joints)[..., :1, :, :].to(joints.dtype).unbind(-2)  # (..., 1, 3)
    return joints @ torch.stack([-right, up, forward], dim=-1)


def motion_codes(motion: Motion) -> Tensor:
    """Codes (P, N, 392) of everybody's tokens in a motion, each turned to face +Z first; of humanml at 20 frames a second, or
    of KIT, in metres and as it stands, at 12.5. ValueError for another skeleton or rate, fewer than 4 frames, or joints that
    are not finite. """
    named = ALIASES.get(motion.skeleton, motion.skeleton)
    if named not in RATES:
        raise ValueError(f"a motion of skeleton {named[:40]!r}, pose codes are read from {' or '.join(RATES)}")
    if abs(motion.fps - RATES[named]) > 1e-3:
        raise ValueError(f"a motion at {motion.fps:g} frames a second, pose codes of {named} are read at {RATES[named]:g}: "
                         "resample it")  # fmt: skip
    joints = torch.as_tensor(motion.joints)
    if not joints.isfinite().all():
        raise ValueError("NaN or infinity in the joints of a motion, expected finite numbers")
    return token_codes(facing_forward(joints) if named == "humanml" else joints)


def mirrored_indices(indices: Tensor) -> Tensor:
    """Numbers (..., N, 70) of the codes of the mirrored pose: left and right exchanged, x negated."""
    table = pose_code_table()
    first = _firsts(indices.device)
    size = torch.tensor([group.bins for group in table.groups], device=indices.device)
    reverse = torch.tensor([each.reverse for each in table.reflections], device=indices.device)
    source = torch.tensor([each.group for each in table.reflections], device=indices.device)
    bins = (indices - first).index_select(-1, source)
    return first + torch.where(reverse, size - 1 - bins, bins)
