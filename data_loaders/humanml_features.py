"""Joints <-> the 263 (humanml) or 251 (kit) motion features of Guo et al. 2022, for many clips at once.

Encoding runs over the concatenated frames of many clips in the layout (joint, x y z, frame): no loop over joints,
frames or, but for cutting the result, clips. Positions are in the skeleton's own unit, Y up; velocities are per frame.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from data_loaders import headings
from data_loaders.bone_rotations import local_sixd, skeleton_tensors, squared_length, unit_bones
from data_loaders.features import FeaturesMismatch, humanml_blocks
from data_loaders.headings import Spans
from data_loaders.skeleton import Heading, Skeleton, check_heading

FRAMES_AT_ONCE = 4096  # about what a core's cache holds; clips are never cut


@dataclass(frozen=True)
class CanonicalClips:
    """Clips side by side on one body and one floor; N counts the frames of all clips.

    Nothing but the bones is turned yet: features see every frame in its own heading, only whole joints need the clip's.
    """

    spans: Spans
    about_root: Tensor  # (J, 3, N) joints relative to the root's place on the floor, y absolute
    place: Tensor  # (N,) complex, z + i x of the root relative to frame 0 of its clip
    facing: Tensor  # (N,) complex, what is taken off the whole clip
    directions: Tensor  # (J-1, 3, N) unit bones after that
    heading: Tensor  # (N,) complex, what remains and the root rotation undoes
    half_steps: Tensor  # (N,) half yaw step to the next frame; the last of a clip means nothing


def features_from_clips(
    clips: Sequence[Tensor], skeleton: Skeleton, heading: Heading = "published", tgt_offsets: Tensor | None = None
) -> list[Tensor]:
    """Features [(T-1, D), ...] float32 of clips [(T, J, 3), ...] of any lengths.

    The last frame of a clip has no velocity, hence T-1. Features of a crop are not a crop of features: floor, facing,
    body and smoothing belong to the whole clip. `tgt_offsets` (J, 3): the body all clips are brought to, by default
    the skeleton's own; without either the clips keep their bones. NaN stays within its clip. Raises FeaturesMismatch.
    """
    return [
        features[start : start + length - 1]
        for canonical in _canonical_groups(clips, skeleton, heading, tgt_offsets)
        for features in (_encode(canonical, skeleton).T.clone(memory_format=torch.contiguous_format),)
        for start, length in _pieces(canonical.spans)
    ]


def features_from_joints(
    joints: Tensor, skeleton: Skeleton, heading: Heading = "published", tgt_offsets: Tensor | None = None
) -> Tensor:
    """Features (T-1, D) float32 of one clip (T, J, 3); see `features_from_clips`."""
    return features_from_clips([joints], skeleton, heading, tgt_offsets)[0]


def _canonical_groups(
    clips: Sequence[Tensor], skeleton: Skeleton, heading: Heading, tgt_offsets: Tensor | None
) -> Iterator[CanonicalClips]:
    check_heading(heading)
    group: list[Tensor] = []
    for number, clip in enumerate(clips):
        clip = torch.as_tensor(clip)
        if clip.ndim != 3 or clip.shape[1:] != (skeleton.num_joints, 3) or len(clip) < 2:
            raise FeaturesMismatch(
                f"clip {number} has shape {tuple(clip.shape)}; {skeleton.name} needs "
                f"(frames, {skeleton.num_joints}, 3) with at least 2 frames"
            )
        if group and sum(map(len, group)) + len(clip) > FRAMES_AT_ONCE:
            yield canonicalise(group, skeleton, heading, tgt_offsets)
            group = []
        group.append(clip)
    if group:
        yield canonicalise(group, skeleton, heading, tgt_offsets)


def _pieces(spans: Spans) -> Iterator[tuple[int, int]]:
    return zip(spans.starts.tolist(), spans.lengths.tolist())


@torch.inference_mode()
def canonicalise(
    clips: Sequence[Tensor], skeleton: Skeleton, heading: Heading, tgt_offsets: Tensor | None = None
) -> CanonicalClips:
    """Body, floor, place, facing (steps 1-4 of process_file) and headings of clips [(T, J, 3), ...] as one batch."""
    layout = torch.cat([torch.as_tensor(clip).to(torch.float32).permute(1, 2, 0) for clip in clips], 2)  # (J, 3, N)
    spans = Spans.of([len(clip) for clip in clips], layout.device)
    about_root, root, directions = _on_target_body(layout, spans, skeleton, tgt_offsets)

    height, place = root[1], torch.complex(root[2], root[0])
    place = place - place.index_select(0, spans.starts).index_select(0, spans.clip)
    floor = torch.segment_reduce(about_root[:, 1].amin(0) + height, "min", lengths=spans.lengths)
    about_root[:, 1].add_(height - floor.index_select(0, spans.clip))

    forward = headings.forward_directions(about_root, skeleton, swapped_hips=heading == "published")
    smooth = headings.unit_headings(headings.smooth_in_time(forward, spans), spans.starts)
    if heading == "published":
        first = headings.forward_directions(about_root.index_select(2, spans.starts), skeleton, swapped_hips=False)
        facing = headings.unit_headings(first, torch.arange(len(clips), device=layout.device))
        facing = facing.index_select(0, spans.clip)
        yaw, half_steps = headings.published_headings(smooth, facing, spans)
    else:
        facing = smooth.index_select(0, spans.starts).index_select(0, spans.clip)
        yaw, half_steps = headings.continuous_headings(smooth, spans)
    return CanonicalClips(spans, about_root, place, facing, headings.turn(directions, facing), yaw, half_steps)


def _on_target_body(
    joints: Tensor, spans: Spans, skeleton: Skeleton, tgt_offsets: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Joints about the root (J, 3, N), root path (3, N) and unit bones (J-1, 3, N) on the target body.

    The published IK + FK comes to this, because target offsets are parallel to the rest directions: each bone keeps its
    direction and takes the target's length; the root path is scaled by the ratio of leg lengths in frame 0.
    """
    constants = skeleton_tensors(skeleton, joints.device)
    directions, own = unit_bones(joints, constants)
    if tgt_offsets is not None:
        target = torch.as_tensor(tgt_offsets).to(joints).norm(dim=-1)[1:]
    elif constants.lengths is not None:
        target = constants.lengths
    else:
        return joints - joints[0], joints[0], directions
    legs = own.index_select(1, spans.starts).index_select(0, constants.legs).sum(0)
    scale = target.index_select(0, constants.legs).sum() / legs
    about_root = (constants.paths * target) @ directions.flatten(1)  # (J, 3 N)
    return about_root.view_as(joints), joints[0] * scale.index_select(0, spans.clip), directions


@torch.inference_mode()
def _encode(clips: CanonicalClips, skeleton: Skeleton) -> Tensor:
    """Features (D, N) of all frames; the last column of each clip mixes two clips and is to be left out."""
    about_root, frames = clips.about_root, len(clips.place)
    blocks = humanml_blocks(skeleton.num_joints)
    heading = clips.facing * clips.heading
    root_steps = clips.place.diff()
    steps = torch.empty_like(about_root)  # the last frame's is left as it comes
    torch.sub(about_root[..., 1:], about_root[..., :-1], out=steps[..., :-1])
    steps[:, 0, :-1].add_(root_steps.imag)
    steps[:, 2, :-1].add_(root_steps.real)
    steps[..., -1] = 0.0

    features = about_root.new_empty(blocks["contact"].stop, frames)
    features[blocks["root_yaw"]] = clips.half_steps
    velocity = torch.view_as_real(root_steps * heading[1:].conj())  # z, x in the heading of the NEXT frame
    features[blocks["root_velocity"]][:, :-1] = velocity.T.flip(0)
    features[blocks["root_height"]] = about_root[0, 1]
    headings.turn(about_root[1:], heading, out=features[blocks["ric"]].unflatten(0, (-1, 3)))
    local_sixd(clips.directions, clips.heading, skeleton, out=features[blocks["rot"]].unflatten(0, (-1, 6)))
    headings.turn(steps, heading, out=features[blocks["local_velocity"]].unflatten(0, (-1, 3)))
    feet = skeleton_tensors(skeleton, steps.device).feet
    features[blocks["contact"]] = _planted(squared_length(steps.index_select(0, feet)), skeleton)
    return features


def foot_contacts(joints: Tensor, skeleton: Skeleton) -> Tensor:
    """1.0 where a foot joint moves less than the skeleton's threshold to the next frame, (..., T-1, 4): left ankle and
    toe, right ankle and toe. From joints (..., T, J, 3) in the skeleton's unit at its contact_fps. No height test."""
    feet = joints[..., list(skeleton.feet), :]
    return _planted(feet.diff(dim=-3).square().sum(-1), skeleton)


def _planted(squared_steps: Tensor, skeleton: Skeleton) -> Tensor:
    return (squared_steps < skeleton.contact_threshold).to(squared_steps.dtype)


def _precise(features: Tensor) -> torch.dtype:
    return features.dtype if features.dtype in (torch.float32, torch.float64) else torch.float32


def _accumulate(steps: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Half yaw (..., T) and root x, z, each (..., T), float64, from the first three features (..., T, 3).

    Frame t adds the steps of the frames before it.
    """
    before = torch.nn.functional.pad(steps[..., :-1, :].double(), (0, 0, 1, 0))  # (..., T, 3)
    half = before[..., 0].cumsum(-1)
    cos, sin = (2 * half).cos(), (2 * half).sin()
    x = (before[..., 1] * cos - before[..., 2] * sin).cumsum(-1)
    z = (before[..., 1] * sin + before[..., 2] * cos).cumsum(-1)
    return half, (x, z)


def joints_from_features(features: Tensor, skeleton: Skeleton | int) -> Tensor:
    """Joints (..., T, J, 3) from denormalised features (..., T, D), in the features' unit. Differentiable.

    Only root and ric columns are read (`recover_from_ric`), so the first 4 + 3 (J-1) columns are enough. The root is
    accumulated in float64. FeaturesMismatch where the width does not fit.
    """
    num_joints = skeleton if isinstance(skeleton, int) else skeleton.num_joints
    blocks = humanml_blocks(num_joints)
    width, whole = blocks["ric"].stop, blocks["contact"].stop
    if features.shape[-1] not in (width, whole):
        raise FeaturesMismatch(
            f"features have {features.shape[-1]} columns; {num_joints} joints need {whole} (or the first {width})"
        )
    dtype = _precise(features)
    steps, height, ric = features[..., :width].to(dtype).split((3, 1, width - 4), -1)
    half, (root_x, root_z) = _accumulate(steps)
    cos, sin = (2 * half).cos().to(dtype).unsqueeze(-1), (2 * half).sin().to(dtype).unsqueeze(-1)
    root_x, root_z = root_x.to(dtype).unsqueeze(-1), root_z.to(dtype).unsqueeze(-1)
    x, y, z = ric.unflatten(-1, (num_joints - 1, 3)).unbind(-1)  # (..., T, J-1)
    return torch.stack(
        (
            torch.cat((root_x, root_x + cos * x - sin * z), -1),
            torch.cat((height, y), -1),
            torch.cat((root_z, root_z + sin * x + cos * z), -1),
        ),
        -1,
    )


def mirror_joints(joints: Tensor, skeleton: Skeleton) -> Tensor:
    """Joints (..., J, 3) with left and right exchanged: x negated, partners swapped, fingers too where the array has
    more joints than the skeleton and the skeleton names them. Features must be computed anew."""
    count = joints.shape[-2]
    left, right = skeleton.left_joints, skeleton.right_joints
    if count > skeleton.num_joints:
        left, right = left + skeleton.left_hand, right + skeleton.right_hand
    if max(left + right) >= count:
        raise FeaturesMismatch(f"{count} joints cannot be mirrored as {skeleton.name}")
    order = list(range(count))
    for a, b in zip(left, right):
        order[a], order[b] = b, a
    return joints[..., order, :] * joints.new_tensor((-1.0, 1.0, 1.0))
