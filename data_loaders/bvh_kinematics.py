"""The joints of a BVH hierarchy and where they are in every frame."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

KINEMATICS_AT_ONCE = 2**20  # joints x frames turned together; a working copy takes 72 bytes each


@dataclass
class BvhNode:
    """One joint as the hierarchy tells it; `line` is where it stands in the file."""

    name: str
    parent: int
    line: int
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    channels: list[tuple[str, int, int]] = field(default_factory=list)  # ("position" | "rotation", axis, column)


def drop_still_positions(nodes: list[BvhNode], frames: np.ndarray) -> int:
    """Takes from joints the position channels that hold 0 in every frame although their OFFSET is not 0; returns how many.

    Position channels replace the OFFSET (Blender and MotionBuilder read and write them so), but some programs write what is to
    be added to it (three.js reads them so), which is 0 for a rigid body. Replaced, such a body is one point. A joint alone of
    that kind, as a second root that stays in the first, is left as it is: most joints with positions must be so.
    """
    moving = [node for node in nodes if node.parent >= 0 and any(kind == "position" for kind, _, _ in node.channels)]
    columns = {id(node): [column for kind, _, column in node.channels if kind == "position"] for node in moving}
    still = [node for node in moving if any(node.offset) and not frames[:, columns[id(node)]].any()]
    if len(still) < 2 or 2 * len(still) <= len(moving):
        return 0
    for node in still:
        node.channels = [channel for channel in node.channels if channel[0] != "position"]
    return len(still)


def forward_kinematics(nodes: list[BvhNode], frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """World positions (T, J, 3) float64 and rotations (T, J, 3, 3) float32, some frames at a time so that the working
    copies stay small."""
    positions = np.empty((len(frames), len(nodes), 3))
    rotations = np.empty((len(frames), len(nodes), 3, 3), dtype=np.float32)
    step = max(1, KINEMATICS_AT_ONCE // len(nodes))
    for start in range(0, len(frames), step):
        piece = slice(start, start + step)
        _place_all(nodes, frames[piece], positions[piece], rotations[piece])
    return positions, rotations


def _place_all(nodes: list[BvhNode], frames: np.ndarray, positions: np.ndarray, rotations: np.ndarray) -> None:
    """Fills positions (T, J, 3) and rotations (T, J, 3, 3): one pass over joints, all frames at once.

    Rotation channels multiply from left to right as listed (R = R1 R2 R3). Turning the parent's world matrix by one
    axis changes only two of its columns, so no local matrix is ever built.
    """
    num_frames, num_joints = len(frames), len(nodes)
    columns = np.ascontiguousarray(frames.T)  # (channels, T)
    places = np.empty((num_joints, 3, num_frames))
    turns = np.empty((num_joints, 3, 3, num_frames), dtype=np.float32)
    world: list[np.ndarray] = []  # per joint (column, row, T)
    identity = np.broadcast_to(np.eye(3)[:, :, None], (3, 3, num_frames))
    for index, node in enumerate(nodes):
        is_root = node.parent < 0
        above = identity if is_root else world[node.parent]
        local: list[float | np.ndarray] = list(node.offset)
        matrix = above
        for kind, axis, column in node.channels:
            if kind == "position":
                local[axis] = columns[column]
            else:
                matrix = _turned(matrix, axis, columns[column])
        world.append(matrix)
        place = above[0] * local[0] + above[1] * local[1] + above[2] * local[2]  # (3, T)
        places[index] = place if is_root else place + places[node.parent]
        turns[index] = matrix.transpose(1, 0, 2)  # (row, column, T)
    positions[:] = places.transpose(2, 0, 1)
    rotations[:] = turns.transpose(3, 0, 1, 2)


def _turned(matrix: np.ndarray, axis: int, degrees: np.ndarray) -> np.ndarray:
    """matrix @ rotation about a coordinate axis; matrix is (column, row, T)."""
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    second, third = (axis + 1) % 3, (axis + 2) % 3
    turned = np.empty_like(matrix)
    turned[axis] = matrix[axis]
    turned[second] = matrix[second] * cos + matrix[third] * sin
    turned[third] = matrix[third] * cos - matrix[second] * sin
    return turned
