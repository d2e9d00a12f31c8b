"""BVH files -> world positions and rotations of every joint, whatever the dialect.

The format was never standardised, so nothing is assumed that the file states itself: the order of channels is read
per joint, any subset of channels is allowed, position channels REPLACE the OFFSET (on any joint, not only the root),
nested moving roots are composed, End Sites are joints of their own ("<joint>_end"), LF/CRLF/CR, tabs and byte order
marks are fine. Whatever the file holds, time and memory grow with its size alone: every part is read in one pass, and sizes
are checked before anything is allocated for them.
"""

from __future__ import annotations

import io
import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np

from protos.reading import FileError, name_of, read_bytes

MAX_BYTES = 512 * 2**20  # half an hour of 100 joints at 60 fps takes 330 MB
MAX_HEADER = 16 * 2**20
MAX_JOINTS = 4096
MAX_NAME = 256
MAX_JOINT_FRAMES = 16_000_000  # frames x joints; their positions and rotations take 60 bytes each
KINEMATICS_AT_ONCE = 2**20  # joints x frames turned together; a working copy takes 72 bytes each
_MOTION = re.compile(rb"^[ \t]*MOTION[ \t]*$", re.MULTILINE | re.IGNORECASE)
_BLANK = re.compile(rb"\s*")


@dataclass
class BvhNode:
    """One joint as the hierarchy tells it; `line` is where it stands in the file."""

    name: str
    parent: int
    line: int
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    channels: list[tuple[str, int, int]] = field(default_factory=list)  # ("position" | "rotation", axis, column)


@dataclass(frozen=True)
class BvhClip:
    """One BVH file after forward kinematics, in the file's own units and axes.

    joints (T, J, 3) float64 world positions; rotations (T, J, 3, 3) float32 world rotation matrices (columns = the
    joint's local axes; an End Site has its parent's); parents (J,) with -1 for a root; offsets (J, 3) as in the file.
    warnings: a line for each thing in the file that was read although it is not quite right.
    """

    name: str
    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: np.ndarray
    joints: np.ndarray
    rotations: np.ndarray
    fps: float
    warnings: tuple[str, ...] = ()


def read_bvh(source: str | Path | BinaryIO | bytes, name: str | None = None) -> BvhClip:
    """The clip in a BVH file, an open binary file or bytes; `name` is what errors call it (default: the path).

    Raises FileError with file, line and what was expected for text that is not BVH, a motion part that disagrees with
    the hierarchy or its frame count, numbers that are not numbers, NaN.
    """
    name = name or name_of(source)
    data = read_bytes(source, MAX_BYTES, name).replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    motion = _MOTION.search(data, 0, MAX_HEADER)
    if motion is None:
        where = "" if len(data) <= MAX_HEADER else f" in its first {MAX_HEADER // 2**20} MB"
        raise FileError(f"{name}: no line MOTION{where}; a BVH file has a HIERARCHY part and a MOTION part (file cut short?)")
    hierarchy = _Hierarchy(data[: motion.start()], name)
    nodes = hierarchy.nodes
    announced, frame_time, body = _read_motion_head(data, motion.end(), name)
    if announced * len(nodes) > MAX_JOINT_FRAMES:
        raise FileError(f"{name}: {announced} frames of {len(nodes)} joints; expected at most {MAX_JOINT_FRAMES} joints over "
                         "all frames: cut the recording into parts")  # fmt: skip
    first_line = data.count(b"\n", 0, body) + 1
    frames, told = _read_frames(data[body:], first_line, announced, hierarchy.columns, name)
    if dropped := drop_still_positions(nodes, frames):
        told += (f"position channels of {dropped} joints are 0 in every frame, which would put them into one point: their "
                 "OFFSET is used",)  # fmt: skip
    joints, rotations = forward_kinematics(nodes, frames)
    parents, offsets = tuple(node.parent for node in nodes), np.array([node.offset for node in nodes])
    return BvhClip(name, _unique_names(nodes), parents, offsets, joints, rotations, _frames_per_second(frame_time), told)


def _frames_per_second(frame_time: float) -> float:
    """1 / frame time, freed from the few digits it was written with (0.0333333 is 30, 0.008333 is 120; 29.97 stays)."""
    fps = 1.0 / frame_time
    return float(round(fps)) if abs(fps - round(fps)) < 2e-4 * fps else fps


def _unique_names(nodes: list[BvhNode]) -> tuple[str, ...]:
    """Joint names; a name that returns gets "#2", "#3", ... so that a mapping can tell the joints apart."""
    seen: Counter[str] = Counter()
    names = []
    for node in nodes:
        seen[node.name] += 1
        names.append(node.name if seen[node.name] == 1 else f"{node.name}#{seen[node.name]}")
    return tuple(names)


class _Hierarchy:
    """The HIERARCHY part, read word by word: `nodes` in file order (parents before children), `columns` of a frame."""

    def __init__(self, header: bytes, name: str):
        self.name, self.line, self.words, self.at = name, 0, [], 0  # at: the next word of the line
        self.nodes: list[BvhNode] = []
        self.columns = 0
        self.open: list[int] = []  # indices of the joints whose braces are open
        self.opening = False  # a joint was named, its brace has not come yet
        text = header.decode("utf-8-sig", errors="replace").replace("{", " { ").replace("}", " } ")
        for self.line, content in enumerate(text.split("\n"), start=1):
            self.words, self.at = content.split(), 0
            while self.at < len(self.words):
                self._read(self._next(1)[0])
        if not self.nodes:
            raise FileError(f"{name}: no ROOT joint before MOTION; expected a BVH file starting with HIERARCHY")
        if self.open or self.opening:
            joint = self.nodes[self.open[-1] if self.open else -1]
            self._fail(f"MOTION begins while {joint.name} (line {joint.line}) is open")
        if not self.columns:
            raise FileError(f"{name}: no joint has CHANNELS")

    def _fail(self, problem: str) -> NoReturn:
        raise FileError(f"{self.name}, line {self.line}: {problem}")

    def _next(self, count: int) -> list[str]:
        """So many words, or what the line still has."""
        self.at += count
        return self.words[self.at - count : self.at]

    def _read(self, word: str) -> None:
        key = word.upper()
        joint = self.nodes[self.open[-1]] if self.open and not self.opening else None
        if key in ("ROOT", "JOINT", "END"):
            self._read_joint(word)
        elif key == "{" and self.opening:
            self.open.append(len(self.nodes) - 1)
            self.opening = False
        elif key == "}" and joint:
            self.open.pop()
        elif key == "OFFSET" and joint:
            joint.offset = self._read_offset()
        elif key == "CHANNELS" and joint:
            self._read_channels(joint)
        elif key != "HIERARCHY" or self.nodes:
            self._fail(f"unexpected {word[:40]!r}; the HIERARCHY part of a BVH file holds ROOT, JOINT, End Site, OFFSET, "
                       "CHANNELS and braces")  # fmt: skip

    def _read_joint(self, word: str) -> None:
        """A joint; its name (it may hold spaces) ends at a brace or with the line."""
        if self.opening:
            self._fail(f"expected '{{' after {self.nodes[-1].name}, found {word}")
        if len(self.nodes) == MAX_JOINTS:
            self._fail(f"more than {MAX_JOINTS} joints; expected the skeleton of a body")
        try:
            end = self.words.index("{", self.at)
        except ValueError:
            end = len(self.words)
        label = " ".join(self._next(end - self.at))
        if word.upper() == "END":
            if not self.open:
                self._fail("End Site outside any joint")
            label = f"{self.nodes[self.open[-1]].name}_end"
        if not 0 < len(label) <= MAX_NAME:
            found = f"a name of {len(label)} characters" if label else f"{word} without a name"
            self._fail(f"{found}; expected a name of up to {MAX_NAME}")
        self.nodes.append(BvhNode(label, self.open[-1] if self.open else -1, self.line))
        self.opening = True

    def _read_offset(self) -> tuple[float, float, float]:
        words = self._next(3)
        try:
            x, y, z = (float(word) for word in words)
        except ValueError:
            x = y = z = np.nan
        if not np.isfinite([x, y, z]).all():
            self._fail(f"OFFSET expects 3 numbers, all of them finite, found {' '.join(words)[:60]!r}")
        return x, y, z

    def _read_channels(self, joint: BvhNode) -> None:
        found = self._next(1)
        count = _whole_number(*found) if found else None
        if count is None:
            self._fail(f"CHANNELS of {joint.name} expects a count, found {' '.join(found)[:40]!r}")
        labels = self._next(count)
        if len(labels) < count:
            self._fail(f"{joint.name} announces {count} channels, the line names {len(labels)}")
        if joint.channels:
            self._fail(f"{joint.name} has a second CHANNELS line")
        for column, label in enumerate(labels, start=self.columns):
            axis, kind = label[0].upper(), label[1:].lower()
            if axis not in "XYZ" or kind not in ("position", "rotation"):
                self._fail(f"unknown channel {label[:40]!r}; expected Xposition … Zrotation")
            joint.channels.append((kind, "XYZ".index(axis), column))
        self.columns += count


def _whole_number(text: str | bytes) -> int | None:
    """The number that up to 12 digits spell, None for any other text."""
    return int(text) if len(text) <= 12 and text.isascii() and text.isdigit() else None


def _read_motion_head(data: bytes, start: int, name: str) -> tuple[int, float, int]:
    """Announced number of frames, seconds per frame, and where the numbers begin."""
    value, line, start = _head_line(data, b"frames", data.find(b"\n", start) + 1 or len(data))
    count = _whole_number(value)
    if count is None:
        raise FileError(f"{name}, line {line}: expected 'Frames: N' after MOTION")
    value, line, start = _head_line(data, b"frame time", start)
    try:
        seconds = float(value)
    except ValueError:
        seconds = 0.0
    if not 1e-4 <= seconds <= 10:
        raise FileError(f"{name}, line {line}: expected 'Frame Time: SECONDS', from 0.0001 to 10, after 'Frames:'")
    return count, seconds, start


def _head_line(data: bytes, label: bytes, start: int) -> tuple[bytes, int, int]:
    """What the first line from `start` on that is not blank says after `label:` (nothing if it says something else), the line's
    number, and where the next line begins."""
    begin = _BLANK.match(data, start).end()
    end = data.find(b"\n", begin) + 1 or len(data)
    found, _, value = data[begin:end].partition(b":")
    fits = b" ".join(found.lower().split()) == label
    return value.strip() if fits else b"", data.count(b"\n", 0, begin) + 1, end


def _read_frames(
    body: bytes, first_line: int, announced: int, channels: int, name: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Channel values (T, channels) and warnings; a frame may go over several lines.

    A file with one whole frame more or less than it announces, as some programs count them, is read as it is; one that may
    end inside a frame is not.
    """
    if announced == 0 or not body.strip():
        raise FileError(f"{name}, line {first_line}: {announced} frames announced, no numbers found; expected motion data")
    values = _numbers(body)
    if not values.size:
        values = _numbers(body.replace(b"\n", b" "))
    if values.size != announced * channels:
        _require_whole_rows(_rows(body, first_line), channels, name)
    count = values.size // channels
    cut = count < announced and not body.endswith(b"\n")  # its last number may lack digits
    if abs(count - announced) > 1 or cut:
        raise FileError(f"{name}, line {_rows(body, first_line)[-1][0]}: the motion ends after {count} frames, expected "
                         f"{announced}, which the line 'Frames:' announces{' (file cut short?)' if cut else ''}")  # fmt: skip
    frames = values.reshape(count, channels)
    bad = ~np.isfinite(frames)
    if bad.any():
        frame, channel = np.argwhere(bad)[0]
        rows = _rows(body, first_line)
        raise FileError(f"{name}, line {rows[min(frame, len(rows) - 1)][0]}: {frames[frame, channel]} in frame {frame}, number "
                         f"{channel + 1}; expected a finite number")  # fmt: skip
    return frames, () if count == announced else (f"holds {count} whole frames, 'Frames:' announces {announced}: all are read",)


def _numbers(text: bytes) -> np.ndarray:
    """All numbers of a table; none where its lines differ in length or something else stands there. np.loadtxt parses fastest:
    54 ns a number, np.fromstring 76, np.array(split) 94."""
    try:
        return np.loadtxt(io.BytesIO(text), ndmin=1, comments=None)
    except ValueError:
        return np.empty(0)


def _rows(body: bytes, first_line: int) -> list[tuple[int, bytes]]:
    """The lines that are not blank, each with its number in the file."""
    return [(line, row) for line, row in enumerate(body.split(b"\n"), start=first_line) if row.strip()]


def _require_whole_rows(rows: list[tuple[int, bytes]], channels: int, name: str) -> None:
    """FileError for the first of the lines that is not a whole frame of numbers."""
    for line, row in rows:
        words = row.split()
        for word in words:
            try:
                float(word)
            except ValueError:
                shown = word[:30].decode("utf-8", errors="replace")
                raise FileError(f"{name}, line {line}: {shown!r} is not a number; expected motion data") from None
        if len(words) != channels:
            last = " (file cut short?)" if line == rows[-1][0] else ""
            raise FileError(f"{name}, line {line}: {len(words)} numbers, expected {channels}, one for each channel{last}")


# ---------------------------------------------------------------------------------------- where the joints are in every frame


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
