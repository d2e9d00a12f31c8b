"""The clips of a split, an account of those that cannot be used, names of clips that are made of a recording, and windows."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice, pairwise

import numpy as np

from data_loaders.text import Caption

# Marks in the names of clips that are made of a recording; `recording_names` in data_loaders/input_files.py keeps "@" for them.
MIRRORED = "@mirrored"
LEAST_MOVING = 0.25  # share of a window's frames


@dataclass(frozen=True)
class Clips:
    """The clips of a split. `motion(name)` gives features (T, D), `captions(name)` what describes them; both raise
    KeyError or OSError for a clip that is not there.
    """

    names: Sequence[str]
    motion: Callable[[str], np.ndarray]
    captions: Callable[[str], list[Caption]]


@dataclass
class LeftOut:
    """Clips (or captioned parts) that a dataset left out, and why."""

    skipped: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, reason: str) -> None:
        self.skipped[name] = reason

    def __str__(self) -> str:
        """'5 left out: 3 too short (a, b, c), 2 missing (d, e)'; reasons by their words before a colon."""
        kinds = Counter(reason.partition(":")[0] for reason in self.skipped.values())
        parts = []
        for kind, count in kinds.most_common():
            names = islice((n for n, reason in self.skipped.items() if reason.partition(":")[0] == kind), 4)
            parts.append(f"{count} {kind} ({', '.join(names)}{', ...' if count > 4 else ''})")
        return f"{len(self.skipped)} left out{': ' + ', '.join(parts) if parts else ''}"


def readable_motions(clips: Clips, num_features: int, left_out: LeftOut) -> Iterator[tuple[str, np.ndarray]]:
    """Readable clips without NaN, in split order."""
    for name in clips.names:
        try:
            motion = clips.motion(name)
        except (KeyError, OSError):
            left_out.add(name, "missing")
            continue
        except (ValueError, EOFError) as error:
            left_out.add(name, f"unreadable: {error}")
            continue
        if motion.ndim != 2 or motion.shape[1] != num_features:
            left_out.add(name, f"of another width: shape {motion.shape}, expected (T, {num_features})")
        elif not np.isfinite(motion).all():
            left_out.add(name, "with NaN")
        else:
            yield name, motion


def clip_name(recording: str, window: int | None = None, mirrored: bool = False) -> str:
    """Name of a clip made of a recording: of all or of a window of it, as recorded or mirrored ('walk@w2@mirrored')."""
    return f"{recording}{'' if window is None else f'@w{window}'}{MIRRORED if mirrored else ''}"


def window_number(name: str) -> int:
    """Which window of its recording a clip is (walk@w2; walk_w2 of earlier versions); 0 for a whole one."""
    match = re.search(r"[@_]w(\d+)$", name.removesuffix(MIRRORED))
    return int(match[1]) if match else 0


def original_name(name: str, labels: Mapping[str, object] | None = None) -> str | None:
    """The clip whose mirror image has this name; None for a clip as it was recorded.

    Names tell it of ours (walk@mirrored, walk_mirrored) and of published datasets and those by earlier versions (M000123,
    folder/M000123, M/KIT/x, Mwalk). Where the clip's labels are given they decide: Mike need not be the image of ike.
    """
    if labels is not None and labels.get("mirrored") is False:
        return None
    for mark in (MIRRORED, "_mirrored"):
        if name.endswith(mark):
            return name.removesuffix(mark)
    if name.startswith("M/"):
        return name[2:]
    folder, slash, stem = name.rpartition("/")
    return f"{folder}{slash}{stem[1:]}" if stem.startswith("M") and len(stem) > 1 else None


def mirrored_twins(names: Sequence[str], labels: Callable[[str], Mapping[str, object]] = lambda name: {}) -> set[str]:
    """Of the names, those of mirrored clips whose original is among them. labels: what is known about a clip."""
    known = set(names)
    return {name for name in known if original_name(name, labels(name)) in known}


def windows(num_frames: int, longest: int) -> list[tuple[int, int]]:
    """Equal windows [start, stop) over joint frames; neighbours share a frame, since n + 1 joints give n feature rows."""
    rows = num_frames - 1
    count = -(-rows // longest)
    edges = [round(i * rows / count) for i in range(count + 1)]
    return [(start, stop + 1) for start, stop in pairwise(edges)]


def moving_frames(joints: np.ndarray, fps: float, speed: float) -> np.ndarray:
    """Whether any joint moves faster than `speed` m/s, (T,), in joints (T, J, 3) in metres."""
    fastest = np.linalg.norm(np.diff(joints, axis=0), axis=-1).max(axis=1) * fps  # (T-1,)
    return np.append(fastest, fastest[-1:]) > speed


def moving_windows(moving: np.ndarray, fps: float, longest: int) -> Iterator[tuple[int, int, bool]]:
    """Equal windows (start, stop, whether enough of it moves) of a recording, without the stillness at its ends, of which half a
    second stays. moving (T,): of its frames.

    A take's captions say what happens in it somewhere; in its still windows nothing does.
    """
    margin, found = round(fps / 2), np.flatnonzero(moving)
    first, last = (found[0], found[-1]) if len(found) else (0, len(moving) - 1)
    first, stop = max(0, first - margin), min(len(moving), last + 1 + margin)
    for start, end in windows(stop - first, longest):
        yield first + start, first + end, bool(moving[first + start : first + end].mean() >= LEAST_MOVING)


def window_captions(captions: Sequence[Caption], start: float, stop: float, duration: float) -> list[Caption]:
    """Captions of the part from start to stop seconds of a recording, their times counted from its start.

    One of a part of the recording is kept where at least half of it, or of the window, or a second lies within; where it
    describes all of the window it has no times.
    """
    kept = []
    for caption in captions:
        if caption.whole:
            kept.append(caption)
            continue
        begin, end = max(caption.start, start), min(caption.end, stop)
        if end - begin <= 0 or end - begin < min(1.0, (min(caption.end, duration) - caption.start) / 2, (stop - start) / 2):
            continue
        all_of_a_window = stop - start < duration and (begin, end) == (start, stop)
        times = (0.0, 0.0) if all_of_a_window else (round(begin - start, 3), round(end - start, 3))
        kept.append(replace(caption, start=times[0], end=times[1]))
    return kept
