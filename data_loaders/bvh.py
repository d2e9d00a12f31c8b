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
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from data_loaders.bvh_kinematics import BvhNode, drop_still_positions, forward_kinematics
from protos.reading import FileError, read_bytes

MocapError = FileError  # a motion file or mapping that cannot be used; the message is one line for the user


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


_MOTION = re.compile(rb"^[ \t]*MOTION[ \t]*$", re.MULTILINE | re.IGNORECASE)
MAX_BYTES = 512 * 2**20  # half an hour of 100 joints at 60 fps takes 330 MB
MAX_HEADER = 16 * 2**20
MAX_JOINTS = 4096
MAX_NAME = 256
MAX_JOINT_FRAMES = 16_000_000  # frames x joints; their positions and rotations take 60 bytes each


def read_bvh(source: str | Path | BinaryIO | bytes, name: str | None = None) -> BvhClip:
    """The clip in a BVH file, an open binary file or bytes; `name` is what errors call it (default: the path).

    Raises MocapError with file, line and what was expected for text that is not BVH, a motion part that disagrees with
    the hierarchy or its frame count, numbers that are not numbers, NaN.
    """
    data, name = _bytes_of(source, name)
    motion = _MOTION.search(data, 0, MAX_HEADER)
    if motion is None:
        where = "" if len(data) <= MAX_HEADER else f" in its first {MAX_HEADER // 2**20} MB"
        raise MocapError(f"{name}: no line MOTION{where}; a BVH file has a HIERARCHY part and a MOTION part (file cut short?)")
    nodes, num_channels = _read_hierarchy(data[: motion.start()], name)
    announced, frame_time, body = _read_motion_head(data, motion.end(), name)
    if announced * len(nodes) > MAX_JOINT_FRAMES:
        raise MocapError(f"{name}: {announced} frames of {len(nodes)} joints; expected at most {MAX_JOINT_FRAMES} joints over "
                         "all frames: cut the recording into parts")  # fmt: skip
    first_line = data.count(b"\n", 0, body) + 1
    frames, warnings = _read_frames(data[body:], first_line, announced, num_channels, name)
    dropped = drop_still_positions(nodes, frames)
    if dropped:
        warnings += (f"position channels of {dropped} joints are 0 in every frame, which would put them into one point: their "
                     "OFFSET is used",)  # fmt: skip
    joints, rotations = forward_kinematics(nodes, frames)
    return BvhClip(
        name=name,
        names=_unique_names(nodes),
        parents=tuple(node.parent for node in nodes),
        offsets=np.array([node.offset for node in nodes]),
        joints=joints,
        rotations=rotations,
        fps=_frames_per_second(frame_time),
        warnings=warnings,
    )


def _bytes_of(source: str | Path | BinaryIO | bytes, name: str | None) -> tuple[bytes, str]:
    """The file's bytes with \\n at the end of each line, and what to call it."""
    name = name or (str(source) if isinstance(source, (str, Path)) else str(getattr(source, "name", "BVH data")))
    data = read_bytes(source, MAX_BYTES, name)
    return (data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data), name


def _frames_per_second(frame_time: float) -> float:
    """1 / frame time, freed from the few digits it was written with (0.0333333 is 30, 0.008333 is 120; 29.97 stays)."""
    fps = 1.0 / frame_time
    return float(round(fps)) if abs(fps - round(fps)) < 2e-4 * fps else fps


def _unique_names(nodes: list[BvhNode]) -> tuple[str, ...]:
    """Joint names; a name that returns gets "#2", "#3", ... so that a mapping can tell the joints apart."""
    seen: dict[str, int] = {}
    names = []
    for node in nodes:
        seen[node.name] = seen.get(node.name, 0) + 1
        names.append(node.name if seen[node.name] == 1 else f"{node.name}#{seen[node.name]}")
    return tuple(names)


# ---------------------------------------------------------------------------------------------------------- reading


def _read_hierarchy(header: bytes, name: str) -> tuple[list[BvhNode], int]:
    """Joints in file order (parents before children) and the number of channels of a frame."""
    nodes: list[BvhNode] = []
    stack: list[int] = []  # indices of the joints whose braces are open
    opening = False  # a joint was named, its brace has not come yet
    columns = 0
    text = header.decode("utf-8-sig", errors="replace").replace("{", " { ").replace("}", " } ")
    line = 0
    for line, content in enumerate(text.split("\n"), start=1):
        words = content.split()
        at = 0  # the next word
        while at < len(words):
            word = words[at]
            at += 1
            key = word.upper()
            if key in ("ROOT", "JOINT", "END"):
                if opening:
                    raise MocapError(f"{name}, line {line}: expected '{{' after {nodes[-1].name}, found {word}")
                if len(nodes) == MAX_JOINTS:
                    raise MocapError(f"{name}, line {line}: more than {MAX_JOINTS} joints; expected the skeleton of a body")
                label, at = _until_brace(words, at)
                if key == "END":
                    if not stack:
                        raise MocapError(f"{name}, line {line}: End Site outside any joint")
                    label = f"{nodes[stack[-1]].name}_end"
                if not 0 < len(label) <= MAX_NAME:
                    found = f"a name of {len(label)} characters" if label else f"{word} without a name"
                    raise MocapError(f"{name}, line {line}: {found}; expected a name of up to {MAX_NAME}")
                nodes.append(BvhNode(label, stack[-1] if stack else -1, line))
                opening = True
            elif key == "{" and opening:
                stack.append(len(nodes) - 1)
                opening = False
            elif key == "}" and stack and not opening:
                stack.pop()
            elif key == "OFFSET" and stack and not opening:
                nodes[stack[-1]].offset = _offset(words[at : at + 3], name, line)
                at += 3
            elif key == "CHANNELS" and stack and not opening:
                at += _channels(words, at, nodes[stack[-1]], columns, name, line)
                columns += len(nodes[stack[-1]].channels)
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


def _until_brace(words: list[str], start: int) -> tuple[str, int]:
    """The name (it may hold spaces) from a word on that ends at a brace or with the line, and where it ends."""
    try:
        end = words.index("{", start)
    except ValueError:
        end = len(words)
    return " ".join(words[start:end]), end


def _offset(words: list[str], name: str, line: int) -> tuple[float, float, float]:
    try:
        x, y, z = (float(word) for word in words)
    except ValueError:
        raise MocapError(f"{name}, line {line}: OFFSET expects 3 numbers, found {' '.join(words)[:60]!r}") from None
    if not np.isfinite([x, y, z]).all():
        raise MocapError(f"{name}, line {line}: OFFSET expects 3 finite numbers, found {' '.join(words)[:60]!r}")
    return x, y, z


def _whole_number(text: str | bytes) -> int | None:
    """The number that up to 12 digits spell, None for any other text."""
    return int(text) if len(text) <= 12 and text.isascii() and text.isdigit() else None


def _channels(words: list[str], start: int, node: BvhNode, column: int, name: str, line: int) -> int:
    """Fills node.channels from the words after CHANNELS; returns how many words that took."""
    count = _whole_number(words[start]) if start < len(words) else None
    if count is None:
        found = " ".join(words[start : start + 1])[:40]
        raise MocapError(f"{name}, line {line}: CHANNELS of {node.name} expects a count, found {found!r}")
    labels = words[start + 1 : start + 1 + count]
    if len(labels) < count:
        raise MocapError(f"{name}, line {line}: {node.name} announces {count} channels, the line names {len(labels)}")
    if node.channels:
        raise MocapError(f"{name}, line {line}: {node.name} has a second CHANNELS line")
    for index, label in enumerate(labels):
        kind = label[1:].lower()
        if label[0].upper() not in "XYZ" or kind not in ("position", "rotation"):
            raise MocapError(f"{name}, line {line}: unknown channel {label[:40]!r}; expected Xposition … Zrotation")
        node.channels.append((kind, "XYZ".index(label[0].upper()), column + index))
    return 1 + count


def _read_motion_head(data: bytes, start: int, name: str) -> tuple[int, float, int]:
    """Announced number of frames, seconds per frame, and where the numbers begin."""
    value, line, start = _head_line(data, b"frames", data.find(b"\n", start) + 1 or len(data))
    count = _whole_number(value or b"")
    if count is None:
        raise MocapError(f"{name}, line {line}: expected 'Frames: N' after MOTION")
    value, line, start = _head_line(data, b"frame time", start)
    try:
        seconds = float(value or b"")
    except ValueError:
        seconds = 0.0
    if not 1e-4 <= seconds <= 10:
        raise MocapError(f"{name}, line {line}: expected 'Frame Time: SECONDS', from 0.0001 to 10, after 'Frames:'")
    return count, seconds, start


def _head_line(data: bytes, label: bytes, start: int) -> tuple[bytes | None, int, int]:
    """What the first line from `start` on that is not blank says after `label:` (None if it says something else), the line's
    number, and where the next line begins."""
    while start < len(data):
        end = data.find(b"\n", start) + 1 or len(data)
        content = data[start:end].strip()
        if content:
            found, _, value = content.partition(b":")
            fits = b" ".join(found.lower().split()) == label
            return value.strip() if fits else None, data.count(b"\n", 0, start) + 1, end
        start = end
    return None, data.count(b"\n", 0, start) + 1, start


def _read_frames(
    body: bytes, first_line: int, announced: int, channels: int, name: str
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Channel values (T, channels) and warnings.

    np.loadtxt parses fastest: 54 ns a number, np.fromstring 76, np.array(split) 94. A file with one whole frame more or less
    than it announces, as some programs count them, is read as it is; one that may end inside a frame is not.
    """
    if announced == 0 or not body.strip():
        raise MocapError(f"{name}, line {first_line}: {announced} frames announced, no numbers found; expected motion data")
    try:
        frames = np.loadtxt(io.BytesIO(body), ndmin=2, comments=None)
    except ValueError:
        frames = _read_wrapped(body, first_line, announced, channels, name)
    if frames.size == announced * channels:
        frames = frames.reshape(announced, channels)
    if frames.shape[1] != channels:
        raise MocapError(f"{name}, line {first_line}: {frames.shape[1]} numbers, expected {channels}, one for each channel")
    count = len(frames)
    cut = count < announced and not body.endswith(b"\n")  # its last number may lack digits
    if abs(count - announced) > 1 or cut:
        raise MocapError(
            f"{name}, line {_line_of(body, first_line, -1)}: the motion ends after {count} frames, expected "
            f"{announced}, which the line 'Frames:' announces{' (file cut short?)' if cut else ''}"
        )
    bad = ~np.isfinite(frames)
    if bad.any():
        frame, channel = np.argwhere(bad)[0]
        raise MocapError(
            f"{name}, line {_line_of(body, first_line, frame)}: {frames[frame, channel]} in frame {frame}, "
            f"number {channel + 1}; expected a finite number"
        )
    return frames, () if count == announced else (f"holds {count} whole frames, 'Frames:' announces {announced}: all are read",)


def _read_wrapped(body: bytes, first_line: int, announced: int, channels: int, name: str) -> np.ndarray:
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
    if sum(lengths.values()) == announced * channels:
        return np.array(body.split(), dtype=np.float64).reshape(announced, channels)
    line, length = next((pair for pair in lengths.items() if pair[1] != channels), (first_line, 0))
    last = " (file cut short?)" if line == max(lengths) else ""
    raise MocapError(f"{name}, line {line}: {length} numbers, expected {channels}, one for each channel{last}")


def _line_of(body: bytes, first_line: int, frame: int) -> int:
    """Line of a frame in the file; blank lines do not count as frames."""
    lines = [line for line, content in enumerate(body.split(b"\n"), start=first_line) if content.strip()]
    return lines[min(frame, len(lines) - 1)]
