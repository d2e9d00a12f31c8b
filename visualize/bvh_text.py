"""A skeleton and its motion as the text of a BVH file."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class BvhSkeleton:
    """What the HIERARCHY part says: names, parents (-1 for the root, before their children), offsets (J, 3) from the parent and
    ends (J, 3), End Sites of joints without children, in the file's unit; order of the rotation channels, such as "ZXY". The
    first `placed` joints, each the only child of the one before, have channels of their position too."""

    names: Sequence[str]
    parents: Sequence[int]
    offsets: np.ndarray
    ends: np.ndarray
    order: str
    placed: int = 1

    def children(self, joint: int) -> list[int]:
        """In the order of the file."""
        return [other for other, parent in enumerate(self.parents) if parent == joint]

    def walk(self, joint: int = 0) -> list[int]:
        """The joint and all below it in the order in which the file has them."""
        return [joint, *(below for child in self.children(joint) for below in self.walk(child))]


def bvh_text(skeleton: BvhSkeleton, places: np.ndarray, angles: np.ndarray, fps: float) -> str:
    """The file: places (T, placed, 3), of one such joint (T, 3), in its unit, angles (T, J, 3) in degrees in the order of the
    channels. Tabs and six digits, as the field writes them; placed joints have six channels, every other three."""
    lines = ["HIERARCHY", *_joint_lines(skeleton, 0, 0), "MOTION", f"Frames: {len(places)}", f"Frame Time: {1 / fps:f}"]
    places, turned = places.reshape(len(places), -1, 3), angles[:, skeleton.walk()]
    first = np.stack([places, turned[:, : skeleton.placed]], axis=2).reshape(len(places), -1)
    rows = np.concatenate([first, turned[:, skeleton.placed :].reshape(len(places), -1)], axis=1)
    line = " ".join(["%f"] * rows.shape[1]) + "\n"
    return "\n".join(lines) + "\n" + line * len(rows) % tuple(rows.ravel().tolist())


def _joint_lines(skeleton: BvhSkeleton, joint: int, depth: int) -> list[str]:
    pad, children = "\t" * depth, skeleton.children(joint)
    kind = "JOINT" if depth else "ROOT"
    placed = "XYZ" if joint < skeleton.placed else ""
    channels = [f"{axis}position" for axis in placed] + [f"{axis}rotation" for axis in skeleton.order]
    below = [line for child in children for line in _joint_lines(skeleton, child, depth + 1)]
    if not children:
        below = [f"{pad}\tEnd Site", f"{pad}\t{{", f"{pad}\t\t{_offset(skeleton.ends[joint])}", f"{pad}\t}}"]
    return [f"{pad}{kind} {skeleton.names[joint]}", f"{pad}{{", f"{pad}\t{_offset(skeleton.offsets[joint])}",
            f"{pad}\tCHANNELS {len(channels)} {' '.join(channels)}", *below, f"{pad}}}"]  # fmt: skip


def _offset(place: np.ndarray) -> str:
    return "OFFSET {:f} {:f} {:f}".format(*place)
