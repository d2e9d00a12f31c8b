"""BVH files -> world positions and rotations of every joint, whatever the dialect.

The format was never standardised, so nothing is assumed that the file states itself: the order of channels is read
per joint, any subset of channels is allowed, position channels REPLACE the OFFSET (on any joint, not only the root),
nested moving roots are composed, End Sites are joints of their own ("<joint>_end"), LF/CRLF/CR, tabs and byte order
marks are fine.
"""

from __future__ import annotations

import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np


class MocapError(ValueError):
    """A motion file or mapping that cannot be used; the message is one line for the user."""


@dataclass(frozen=True)
class BvhClip:
    """One BVH file after forward kinematics, in the file's own units and axes.

    joints (T, J, 3) float64 world positions; rotations (T, J, 3, 3) float32 world rotation matrices (columns = the
    joint's local axes; an End Site has its parent's); parents (J,) with -1 for a root; offsets (J, 3) as in the file.
    """

    name: str
    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: np.ndarray
    joints: np.ndarray
    rotations: np.ndarray
    fps: float


@dataclass
class _Node:
    name: str
    parent: int
    line: int
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    channels: list[tuple[str, int, int]] = field(default_factory=list)  # ("position" | "rotation", axis, column)


_MOTION = re.compile(rb"^[ \t]*MOTION[ \t]*$", re.MULTILINE | re.IGNORECASE)
_FRAMES = re.compile(rb"\s*Frames[ \t]*:[ \t]*(\S*)[ \t]*\n", re.IGNORECASE)
_FRAME_TIME = re.compile(rb"\s*Frame[ \t]+Time[ \t]*:[ \t]*(\S*)[ \t]*(?:\n|$)", re.IGNORECASE)


def read_bvh(source: str | Path | BinaryIO | bytes, name: str | None = None) -> BvhClip:
    """The clip in a BVH file, an open binary file or bytes; `name` is what errors call it (default: the path).

    Raises MocapError with file, line and what was expected for text that is not BVH, a motion part that disagrees with
    the hierarchy or its frame count, numbers that are not numbers, NaN.
    """
    if isinstance(source, (str, Path)):
        name = name or str(source)
        data = Path(source).read_bytes()
    else:
        data = source if isinstance(source, bytes) else source.read()
        name = name or str(getattr(source, "name", "BVH data"))
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    motion = _MOTION.search(data)
    if motion is None:
        raise MocapError(f"{name}: no line MOTION; a BVH file has a HIERARCHY part and a MOTION part (file cut short?)")
    nodes, num_channels = _read_hierarchy(data[: motion.start()], name)
    count, frame_time, body = _read_motion_head(data, motion.end(), name)
    first_line = data.count(b"\n", 0, body) + 1
    frames = _read_frames(data[body:], first_line, count, num_channels, name)
    joints, rotations = _forward_kinematics(nodes, frames)
    return BvhClip(
        name=name,
        names=_unique_names(nodes),
        parents=tuple(node.parent for node in nodes),
        offsets=np.array([node.offset for node in nodes]),
        joints=joints,
        rotations=rotations,
        fps=_frames_per_second(frame_time),
    )


def _frames_per_second(frame_time: float) -> float:
    """1 / frame time, freed from the few digits it was written with (0.0333333 is 30, 0.008333 is 120; 29.97 stays)."""
    fps = 1.0 / frame_time
    return float(round(fps)) if abs(fps - round(fps)) < 2e-4 * fps else fps


def _unique_names(nodes: list[_Node]) -> tuple[str, ...]:
    """Joint names; a name that returns gets "#2", "#3", ... so that a mapping can tell the joints apart."""
    seen: dict[str, int] = {}
    names = []
    for node in nodes:
        seen[node.name] = seen.get(node.name, 0) + 1
        names.append(node.name if seen[node.name] == 1 else f"{node.name}#{seen[node.name]}")
    return tuple(names)


# ---------------------------------------------------------------------------------------------------------- reading


def _read_hierarchy(header: bytes, name: str) -> tuple[list[_Node], int]:
    """Joints in file order (parents before children) and the number of channels of a frame."""
    nodes: list[_Node] = []
    stack: list[int] = []  # indices of the joints whose braces are open
    opening = False  # a joint was named, its brace has not come yet
    columns = 0
    text = header.decode("utf-8-sig", errors="replace").replace("{", " { ").replace("}", " } ")
    line = 0
    for line, content in enumerate(text.split("\n"), start=1):
        words = content.split()
        while words:
            word = words.pop(0)
            key = word.upper()
            if key in ("ROOT", "JOINT", "END"):
                label, words = _until_brace(words)
                if opening:
                    raise MocapError(f"{name}, line {line}: expected '{{' after {nodes[-1].name}, found {word}")
                if key == "END":
                    if not stack:
                        raise MocapError(f"{name}, line {line}: End Site outside any joint")
                    label = f"{nodes[stack[-1]].name}_end"
                if not label:
                    raise MocapError(f"{name}, line {line}: {word} without a name")
                nodes.append(_Node(label, stack[-1] if stack else -1, line))
                opening = True
            elif key == "{" and opening:
                stack.append(len(nodes) - 1)
                opening = False
            elif key == "}" and stack and not opening:
                stack.pop()
            elif key == "OFFSET" and stack and not opening:
                nodes[stack[-1]].offset = _offset(words[:3], name, line)
                words = words[3:]
            elif key == "CHANNELS" and stack and not opening:
                used = _channels(words, nodes[stack[-1]], columns, name, line)
                columns += len(nodes[stack[-1]].channels)
                words = words[used:]
            elif not (key == "HIERARCHY" and not nodes):
                raise MocapError(
                    f"{name}, line {line}: unexpected {word[:40]!r}; the HIERARCHY part of a BVH file holds "
                    "ROOT, JOINT, End Site, OFFSET, CHANNELS and braces"
                )
    if not nodes:
        raise MocapError(f"{name}: no ROOT joint before MOTION; expected a BVH file starting with HIERARCHY")
    if stack or opening:
        open_joint = nodes[stack[-1]] if stack else nodes[-1]
        raise MocapError(f"{name}, line {line}: MOTION begins while {open_joint.name} (line {open_joint.line}) is open")
    if columns == 0:
        raise MocapError(f"{name}: no joint has CHANNELS")
    return nodes, columns


def _until_brace(words: list[str]) -> tuple[str, list[str]]:
    """The name (it may hold spaces) that ends at a brace or at the end of the line, and the words that follow."""
    end = words.index("{") if "{" in words else len(words)
    return " ".join(words[:end]), words[end:]


def _offset(words: list[str], name: str, line: int) -> tuple[float, float, float]:
    try:
        x, y, z = (float(word) for word in words)
    except ValueError:
        raise MocapError(f"{name}, line {line}: OFFSET expects 3 numbers, found {' '.join(words)!r}") from None
    if not np.isfinite([x, y, z]).all():
        raise MocapError(f"{name}, line {line}: OFFSET expects 3 finite numbers, found {' '.join(words)!r}")
    return x, y, z


def _channels(words: list[str], node: _Node, column: int, name: str, line: int) -> int:
    """Fills node.channels from the words after CHANNELS; returns how many words that took."""
    if not words or not words[0].isdigit():
        raise MocapError(f"{name}, line {line}: CHANNELS of {node.name} expects a count, found {' '.join(words[:1])!r}")
    count = int(words[0])
    labels = words[1 : 1 + count]
    if len(labels) < count:
        raise MocapError(f"{name}, line {line}: {node.name} announces {count} channels, the line names {len(labels)}")
    if node.channels:
        raise MocapError(f"{name}, line {line}: {node.name} has a second CHANNELS line")
    for index, label in enumerate(labels):
        kind = label[1:].lower()
        if label[0].upper() not in "XYZ" or kind not in ("position", "rotation"):
            raise MocapError(f"{name}, line {line}: unknown channel {label!r}; expected Xposition … Zrotation")
        node.channels.append((kind, "XYZ".index(label[0].upper()), column + index))
    return 1 + count


def _read_motion_head(data: bytes, start: int, name: str) -> tuple[int, float, int]:
    """Announced number of frames, seconds per frame, and where the numbers begin."""
    line = data.count(b"\n", 0, start) + 2
    frames = _FRAMES.match(data, start)
    if frames is None or not frames[1].isdigit():
        raise MocapError(f"{name}, line {line}: expected 'Frames: N' after MOTION")
    frame_time = _FRAME_TIME.match(data, frames.end())
    seconds = 0.0
    if frame_time is not None:
        try:
            seconds = float(frame_time[1])
        except ValueError:
            seconds = 0.0
    if frame_time is None or not 1e-4 <= seconds <= 10:
        raise MocapError(f"{name}, line {line + 1}: expected 'Frame Time: SECONDS', from 0.0001 to 10, after 'Frames:'")
    return int(frames[1]), seconds, frame_time.end()


def _read_frames(body: bytes, first_line: int, count: int, channels: int, name: str) -> np.ndarray:
    """Channel values (T, channels). np.loadtxt parses fastest: 54 ns a number, np.fromstring 76, np.array(split) 94."""
    if count == 0 or not body.strip():
        raise MocapError(f"{name}, line {first_line}: {count} frames announced, no numbers found; expected motion data")
    try:
        frames = np.loadtxt(io.BytesIO(body), ndmin=2, comments=None)
    except ValueError:
        frames = _read_wrapped(body, first_line, count, channels, name)
    if frames.shape != (count, channels):
        if frames.size != count * channels:
            if frames.shape[1] != channels:
                raise MocapError(
                    f"{name}, line {first_line}: {frames.shape[1]} numbers, expected {channels}, one for each channel"
                )
            raise MocapError(
                f"{name}, line {_line_of(body, first_line, -1)}: the motion ends after {len(frames)} frames, expected "
                f"{count}, which the line 'Frames:' announces"
            )
        frames = frames.reshape(count, channels)
    bad = ~np.isfinite(frames)
    if bad.any():
        frame, channel = np.argwhere(bad)[0]
        raise MocapError(
            f"{name}, line {_line_of(body, first_line, frame)}: {frames[frame, channel]} in frame {frame}, "
            f"number {channel + 1}; expected a finite number"
        )
    return frames


def _read_wrapped(body: bytes, first_line: int, count: int, channels: int, name: str) -> np.ndarray:
    """Frames written over several lines, or the error that says which line is wrong."""
    lengths = {}
    for line, content in enumerate(body.split(b"\n"), start=first_line):
        words = content.split()
        for word in words:
            try:
                float(word)
            except ValueError:
                shown = word[:30].decode("utf-8", errors="replace")
                raise MocapError(f"{name}, line {line}: {shown!r} is not a number; expected motion data") from None
        if words:
            lengths[line] = len(words)
    if sum(lengths.values()) == count * channels:
        return np.array(body.split(), dtype=np.float64).reshape(count, channels)
    line, length = next((pair for pair in lengths.items() if pair[1] != channels), (first_line, 0))
    last = " (file cut short?)" if line == max(lengths) else ""
    raise MocapError(f"{name}, line {line}: {length} numbers, expected {channels}, one for each channel{last}")


def _line_of(body: bytes, first_line: int, frame: int) -> int:
    """Line of a frame in the file; blank lines do not count as frames."""
    lines = [line for line, content in enumerate(body.split(b"\n"), start=first_line) if content.strip()]
    return lines[min(frame, len(lines) - 1)]


# -------------------------------------------------------------------------------------------------------- kinematics


def _forward_kinematics(nodes: list[_Node], frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """World positions (T, J, 3) float64 and rotations (T, J, 3, 3) float32: one pass over joints, all frames at once.

    Rotation channels multiply from left to right as listed (R = R1 R2 R3). Turning the parent's world matrix by one
    axis changes only two of its columns, so no local matrix is ever built.
    """
    num_frames, num_joints = len(frames), len(nodes)
    columns = np.ascontiguousarray(frames.T)  # (channels, T)
    positions = np.empty((num_joints, 3, num_frames))
    rotations = np.empty((num_joints, 3, 3, num_frames), dtype=np.float32)
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
        position = above[0] * local[0] + above[1] * local[1] + above[2] * local[2]  # (3, T)
        positions[index] = position if is_root else position + positions[node.parent]
        rotations[index] = matrix.transpose(1, 0, 2)  # (row, column, T)
    return np.ascontiguousarray(positions.transpose(2, 0, 1)), np.ascontiguousarray(rotations.transpose(3, 0, 1, 2))


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
