"""Is a motion edited as words say, and nothing else? Rules on joints before and after, no learned judge.

The edits and what tells of each are a file, `edit_probes.toml`. Beside what a model makes of real clips stand the clips as they
were, and another clip after the same edit, which may come out as asked but is not this one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data_loaders.corpus import Corpus
from data_loaders.edit_frames import MARGIN
from data_loaders.skeleton import load_skeleton
from evaluations.motion_measures import (
    L_ELBOW,
    L_SHOULDER,
    L_WRIST,
    NECK,
    PELVIS,
    R_ELBOW,
    R_SHOULDER,
    R_WRIST,
    body_axes,
)  # fmt: skip
from evaluations.report import Report, percent
from model.capabilities import OWN, Decoding, Edits, Request
from protos.randomness import derive_seed
from protos.reading import FileError, read_toml
from protos.tables import decimals
from sample.edits import NEUTRAL, SKELETON, edited_motions, planned

FILE = Path(__file__).with_name("edit_probes.toml")
NEAR = 0.1  # of what a measure should become, relative
STILL = 0.05  # metres that joints outside of a part may move on average
KNEES = ((1, 4, 7), (2, 5, 8))  # hip, knee, ankle


def _bend(joints: np.ndarray, first: int, middle: int, last: int) -> np.ndarray:
    """Angle (T,) in degrees by which a limb is bent at its middle joint; 0 is straight."""
    upper, lower = joints[:, middle] - joints[:, first], joints[:, last] - joints[:, middle]
    cosine = (upper * lower).sum(-1) / np.maximum(np.linalg.norm(upper, axis=-1) * np.linalg.norm(lower, axis=-1), 1e-9)
    return np.degrees(np.arccos(np.clip(cosine, -1, 1)))


def _ahead(joints: np.ndarray, fps: float, joint: int) -> np.ndarray:
    """How far (T,) in metres a joint is before the pelvis."""
    return ((joints[:, joint] - joints[:, PELVIS]) * body_axes(joints, fps)[1]).sum(-1)


# Values (T,) of joints (T, 22, 3) in metres at fps.
MEASURES: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "left_wrist_height": lambda joints, fps: joints[:, L_WRIST, 1] - joints[:, PELVIS, 1],
    "right_wrist_height": lambda joints, fps: joints[:, R_WRIST, 1] - joints[:, PELVIS, 1],
    "left_wrist_over_right": lambda joints, fps: joints[:, L_WRIST, 1] - joints[:, R_WRIST, 1],
    "left_elbow_bend": lambda joints, fps: _bend(joints, L_SHOULDER, L_ELBOW, L_WRIST),
    "right_elbow_bend": lambda joints, fps: _bend(joints, R_SHOULDER, R_ELBOW, R_WRIST),
    "knees_bend": lambda joints, fps: np.mean([_bend(joints, *leg) for leg in KNEES], axis=0),
    "hands_apart": lambda joints, fps: np.linalg.norm(joints[:, L_WRIST] - joints[:, R_WRIST], axis=-1),
    "right_wrist_forward": lambda joints, fps: _ahead(joints, fps, R_WRIST),
    "lean": lambda joints, fps: np.degrees(np.arcsin(np.clip(
        _ahead(joints, fps, NECK) / np.maximum(np.linalg.norm(joints[:, NECK] - joints[:, PELVIS], axis=-1), 1e-9), -1, 1))),
    "pelvis_height": lambda joints, fps: joints[:, PELVIS, 1] - joints[..., 1].min(axis=1),
    "seconds": lambda joints, fps: np.full(len(joints), len(joints) / fps),
}  # fmt: skip


@dataclass(frozen=True)
class EditProbe:
    """An edit, and how it is told that it was made: as the head of `edit_probes.toml` says."""

    edit: str
    measure: str
    change: float = 0.0
    factor: float | None = None
    before: tuple[float, float] = (-np.inf, np.inf)
    between: tuple[float, float] | None = None
    part: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        names = load_skeleton(SKELETON).joint_names
        if self.measure not in MEASURES:
            raise ValueError(f"edit '{self.edit}' measures '{self.measure}', expected one of {', '.join(MEASURES)}")
        if unknown := [name for name in self.part if name not in names]:
            raise ValueError(f"edit '{self.edit}' names joint '{unknown[0]}', expected some of {', '.join(names)}")
        if (self.change == 0) == (self.factor is None):
            raise ValueError(f"edit '{self.edit}' says neither or both of change and factor: expected one")

    @property
    def words(self) -> str:
        """The edit with its time, as it is asked for."""
        return self.edit if self.between is None else f"{self.edit} between {self.between[0]:g}s and {self.between[1]:g}s"

    def value(self, joints: np.ndarray, fps: float) -> float:
        """The measure of joints (T, 22, 3), over the frames of the edit."""
        first, last = (0, None) if self.between is None else (round(each * fps) for each in self.between)
        return float(MEASURES[self.measure](joints, fps)[first:last].mean())

    def asks_something_of(self, joints: np.ndarray, fps: float) -> bool:
        """Whether a motion is long enough and not yet as the edit would make it."""
        if len(joints) < fps * (1.0 if self.between is None else self.between[1] + 0.5):
            return False
        return self.before[0] <= self.value(joints, fps) < self.before[1]

    def made(self, before: np.ndarray, after: np.ndarray, fps: float) -> bool:
        """Whether joints (M, 22, 3) are (T, 22, 3) after the edit."""
        was, now = self.value(before, fps), self.value(after, fps)
        if self.factor is not None:
            return abs(now - self.factor * was) <= NEAR * abs(self.factor * was)
        return (now - was) * np.sign(self.change) >= abs(self.change)

    def moved(self, before: np.ndarray, after: np.ndarray, fps: float) -> float | None:
        """Metres that joints outside the part, and all beyond the margin of a time, move on average; None where that is none."""
        if not self.part:
            return None
        count = min(len(before), len(after))
        away = np.linalg.norm(after[:count] - before[:count], axis=-1)  # (T, J)
        outside = np.ones(away.shape, bool)
        inside = [load_skeleton(SKELETON).index(name) for name in self.part]
        first, last = (0, count) if self.between is None else (round(each * fps) for each in self.between)
        outside[max(first - MARGIN, 0) : last + MARGIN, inside] = False
        return float(away[outside].mean())


@dataclass(frozen=True)
class EditProbesFile:
    """A file of edits."""

    probes: tuple[EditProbe, ...]


def edit_probes(only: str | None = None) -> tuple[EditProbe, ...]:
    """The probes, or those whose edit begins so. ValueError where there is none such."""
    try:
        found = read_toml(FILE, EditProbesFile).probes
    except ValueError as error:
        raise error if isinstance(error, FileError) else FileError(f"{FILE}: {error}") from None
    chosen = tuple(each for each in found if only is None or each.words.startswith(only))
    if not chosen:
        raise ValueError(f"--only {only}: no edit begins so: {'; '.join(each.words for each in found)}")
    return chosen


@dataclass(frozen=True)
class Judged:
    """Whether an edit was made, and how far the rest moved, of each of some clips."""

    made: tuple[bool, ...]
    moved: tuple[float | None, ...]

    @property
    def share(self) -> float | None:
        return float(np.mean(self.made)) if self.made else None

    @property
    def distance(self) -> float | None:
        """Centimetres."""
        known = [each for each in self.moved if each is not None]
        return 100 * float(np.mean(known)) if known else None


@dataclass(frozen=True)
class Probed:
    """What a model makes of an edit, beside nothing done and another clip after the same edit."""

    probe: EditProbe
    edited: Judged
    untouched: Judged
    another: Judged


def real_clips(corpus: Corpus, split: str) -> list[np.ndarray]:
    """Joints (T, 22, 3) of the recorded clips of a split, without mirrored ones. ValueError where there is none."""
    clips = [i for i in corpus.split(split) if not corpus.names[i].endswith("@mirrored")]
    if not clips:
        raise ValueError(f"{corpus.folder}: no recorded clip in its split {split!r}: give another --split")
    return [corpus.joints(i) for i in clips]


def probe_edits(model: Edits, probes: Sequence[EditProbe], clips: Sequence[np.ndarray], most: int, seed: int,
                decoding: Decoding = OWN) -> list[Probed]:  # fmt: skip
    """Each edit of up to so many of the clips, evenly spread over those of which it asks something."""
    fps, found = model.features.fps, []
    for probe in tqdm(probes, desc="edits", disable=None):
        asked = [each for each in clips if probe.asks_something_of(each, fps)]
        chosen = [asked[i] for i in np.unique(np.linspace(0, len(asked) - 1, min(most, len(asked))).astype(int))] if asked else []
        after = []
        for number, joints in enumerate(chosen):
            plan = planned(joints, model.features, probe.words, f"clip {number}")
            request = Request(NEUTRAL, len(joints), derive_seed(seed, "edit", probe.words, number))
            after.append(edited_motions(model, plan, [request], decoding)[0].joints[0])
        found.append(Probed(probe, judged(probe, chosen, after, fps), judged(probe, chosen, chosen, fps),
                            judged(probe, chosen, [*after[1:], *after[:1]] if len(after) > 1 else [], fps)))  # fmt: skip
    return found


def judged(probe: EditProbe, before: Sequence[np.ndarray], after: Sequence[np.ndarray], fps: float) -> Judged:
    """Pairs of a clip and a motion that should be it after the edit; none where there are no motions."""
    pairs = list(zip(before, after))
    return Judged(tuple(probe.made(*pair, fps) for pair in pairs), tuple(probe.moved(*pair, fps) for pair in pairs))


def edit_report(facts: dict[str, Any], found: Sequence[Probed]) -> Report:
    """A row for each edit and one for all, which weighs each clip alike. facts: among them `model`, `command`, `made_from`."""
    columns = ["edit", "clips", "made, %", "nothing done", "another clip", "others move, cm", "another clip's"]

    def row(name: str, edited: Judged, untouched: Judged, another: Judged) -> list[object]:
        return [name, len(edited.made), *(percent(each.share) for each in (edited, untouched, another)),
                decimals(edited.distance, 1), decimals(another.distance, 1)]  # fmt: skip

    def pooled(which: str) -> Judged:
        each = [getattr(probed, which) for probed in found]
        return Judged(sum((one.made for one in each), ()), sum((one.moved for one in each), ()))

    every = [pooled(which) for which in ("edited", "untouched", "another")]
    rows = [row("all", *every), *(row(each.probe.words, each.edited, each.untouched, each.another) for each in found)]
    notes = [
        "made: what was asked for is measured on the joints of real clips after the edit. nothing done: the clip as it was; "
        "another clip: that of somebody else after the same edit, in its place. others move: joints outside of the part that is "
        f"named, and all of them beyond {MARGIN} frames of a time that is; at most {100 * STILL:.0f} cm is wished for.",
    ]  # fmt: skip
    summary, figures = _figures(*every), {each.probe.words: _figures(each.edited, each.untouched, each.another) for each in found}
    return Report("Are motions edited as words say?", {**facts, "summary": summary, "edits": figures}, columns, rows, notes)


def _figures(edited: Judged, untouched: Judged, another: Judged) -> dict[str, Any]:
    """For programs: shares from 0 to 1, centimetres."""
    return {"clips": len(edited.made), "made": edited.share, "nothing_done": untouched.share, "another_clip": another.share,
            "others_move_cm": edited.distance, "another_clips_move_cm": another.distance}  # fmt: skip
