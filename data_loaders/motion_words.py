"""The semantics of a motion in words: what is read from joints (data_loaders/motion_semantics.py) as a timeline of phrases.

A value has bands; each is a phrase, or nothing worth saying. Bands of bends are those of the quantised levels, a fifth of them
each; where other values are cut is ours. A value that wavers about an edge stays in its band until it is clearly beyond, and what
lasts too short a time to be seen is no event of its own.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch

from data_loaders.corpus import Motion
from data_loaders.kinematics import smoothed
from data_loaders.motion_semantics import KINDS, PUBLISHED, Scheme, descriptors
from data_loaders.skeleton import ALIASES

SHORTEST = 0.2  # seconds of an event
SMOOTHING = 0.04  # seconds, the sigma over which joints are smoothed first
FPS = 30.0  # at which motion files are read, the rate of the data of two people
MARGINS = {"QPT": 0.03, "QPRPT": 0.03, "QPDT": 0.02, "QLAT": 4.0, "QLOT": 4.0, "QJVT": 0.1}  # beyond an edge, in its unit
DEGREES = ("QLAT", "QLOT")
BENT = ("not", "slightly", "moderately", "nearly completely", "completely")
BENDS = tuple(180.0 * k / len(BENT) for k in range(1, len(BENT)))


class Track(NamedTuple):
    """A value, by its name in `Scheme.names`, the edges of its bands in metres, degrees or metres a second, and a phrase of each
    band, '' where nothing is said."""

    value: str
    edges: tuple[float, ...]
    phrases: tuple[str, ...]


class Event(NamedTuple):
    """What holds from `start` to `end`, seconds, of a person (1, 2, ...), and the kind of the value that tells."""

    start: float
    end: float
    phrase: str
    person: int
    kind: str

    def record(self) -> dict[str, Any]:
        """What files hold of it, in milliseconds' precision."""
        return {**self._asdict(), "start": round(self.start, 3), "end": round(self.end, 3)}


def bends(joint: str, value: str, from_band: int = 1) -> Track:
    """The angle of a joint in the words of its bands, from one of them on."""
    said = (f"{joint} bends {word}" if band >= from_band else "" for band, word in enumerate(BENT))
    return Track(f"QLAT {value}", BENDS, tuple(said))


def either(value: str, edges: tuple[float, ...], *phrases: str) -> list[Track]:
    """The same of the left and of the right side."""
    return [Track(value.format(side=side), edges, tuple(phrase.format(side=side) for phrase in phrases))
            for side in ("left", "right")]  # fmt: skip


TRACKS = (
    Track("QJVT pelvis forward", (-0.3, 0.3, 2.0), ("body moves backward", "", "body moves forward", "body moves forward fast")),
    Track("QJVT pelvis right", (-0.3, 0.3), ("body moves to the left", "", "body moves to the right")),
    Track("QJVT pelvis up", (-0.4, 0.4), ("body sinks", "", "body rises")),
    Track("QLOT pelvis neck forward", (45, 72, 108), ("trunk bends far forward", "trunk leans forward", "", "trunk leans back")),
    Track("QLOT pelvis neck right", (75, 105), ("trunk leans to the right", "", "trunk leans to the left")),
    bends("neck", "neck", 2),
    *(bends(f"{side} {joint}", f"{side}_{joint}") for joint in ("elbow", "knee") for side in ("left", "right")),
    *either("QLOT {side}_shoulder {side}_elbow up", (60, 120), "{side} upper arm points up", "{side} upper arm is level", ""),
    *either("QLOT {side}_shoulder {side}_elbow forward", (45, 135), "{side} upper arm points forward", "",
            "{side} upper arm points backward"),
    Track("QLOT left_shoulder left_elbow right", (135,), ("", "left upper arm points to the left")),
    Track("QLOT right_shoulder right_elbow right", (45,), ("right upper arm points to the right", "")),
    *either("QLOT {side}_elbow {side}_wrist up", (45,), "{side} forearm points up", ""),
    *either("QLOT {side}_hip {side}_knee up", (75, 120), "{side} thigh points up", "{side} thigh is level", ""),
    *either("QLOT {side}_hip {side}_knee forward", (115,), "", "{side} thigh points backward"),
    *either("QLOT {side}_knee {side}_ankle up", (110,), "{side} shin is lifted", ""),
    *either("QPT {side}_wrist forward", (-0.15, 0.35), "{side} hand is behind the body", "", "{side} hand is before the body"),
    Track("QPT left_wrist right", (0.1,), ("", "left hand crosses to the right")),
    Track("QPT right_wrist right", (-0.1,), ("right hand crosses to the left", "")),
    *either("QPRPT {side}_wrist head up", (0.0, 0.25), "{side} hand is above the head", "{side} hand is at head height", ""),
    Track("QPRPT left_wrist right_wrist up", (-0.3, 0.3), ("left hand is above the right", "", "right hand is above the left")),
    Track("QPRPT left_foot right_foot up", (-0.15, 0.15), ("left foot is above the right", "", "right foot is above the left")),
    Track("QPRPT left_foot right_foot forward", (-0.3, 0.3), ("left foot is ahead", "", "right foot is ahead")),
    Track("QPDT left_wrist right_wrist", (0.15, 1.1), ("hands are together", "", "hands are wide apart")),
    Track("QPDT left_foot right_foot", (0.7,), ("", "feet are wide apart")),
    *either("QPDT {side}_wrist head", (0.22,), "{side} hand is at the head", ""),
    *either("QPDT {side}_wrist {side}_foot", (0.25,), "{side} hand is at the {side} foot", ""),
    *either("QPDT {side}_elbow {side}_knee", (0.2,), "{side} elbow is at the {side} knee", ""),
    *either("QJVT {side}_wrist up", (-0.6, 0.6), "{side} hand goes down", "", "{side} hand goes up"),
    *either("QJVT {side}_foot forward", (-1.0, 1.5), "{side} foot steps backward", "", "{side} foot steps forward"),
)  # fmt: skip


def describe(motion: Motion, shortest: float = SHORTEST, tracks: Sequence[Track] = TRACKS,
             scheme: Scheme = PUBLISHED) -> list[Event]:
    """What everybody in a motion does, by time, then by person; events are `shortest` seconds or longer, unless the motion is
    shorter. ValueError for another skeleton than the scheme's, fewer than 2 frames, or joints that are not finite."""
    people, named = np.asarray(motion.joints, np.float64), ALIASES.get(motion.skeleton, motion.skeleton)
    if named != scheme.skeleton:
        raise ValueError(f"a motion of skeleton {named[:40]!r}, semantics are read from {scheme.skeleton}")
    if people.ndim != 4 or people.shape[1] < 2:
        raise ValueError(f"joints have shape {people.shape}, semantics need (people, 2 or more frames, joints, 3)")
    if not np.isfinite(people).all():
        raise ValueError("NaN or infinity in the joints of a motion, expected finite numbers")
    columns = {name: column for column, name in enumerate(scheme.names)}
    found = []
    for person, joints in enumerate(people, start=1):
        steady = torch.from_numpy(smoothed(joints, SMOOTHING * motion.fps))
        values = torch.cat(list(descriptors(steady, motion.fps, scheme).values()), dim=-1).numpy()  # (T, 165)
        for track in tracks:
            kind = track.value.partition(" ")[0]
            own = values[:, columns[track.value]]
            own = np.degrees(own) if kind in DEGREES else own
            for start, stop, band in runs(bands(own, track.edges, MARGINS[kind]), math.ceil(shortest * motion.fps - 1e-9)):
                if phrase := track.phrases[band]:
                    found.append(Event(start / motion.fps, stop / motion.fps, phrase, person, kind))
    return sorted(found, key=lambda event: (event.start, event.person, KINDS.index(event.kind), event.phrase))


def bands(values: np.ndarray, edges: Sequence[float], margin: float) -> np.ndarray:
    """Band (T,) of values (T,): how many of the rising edges lie below; one is passed by more than `margin`, either way."""
    place, band = np.arange(len(values)), np.zeros(len(values), int)
    for edge in edges:
        above = values > edge + margin
        above[0] = values[0] > edge
        told = above | (values < edge - margin)
        told[0] = True
        band += above[np.maximum.accumulate(np.where(told, place, 0))]
    return band


def runs(band: np.ndarray, shortest: int) -> list[tuple[int, int, int]]:
    """(start, stop, band) of stretches of equal bands (T,); shorter ones belong to that before them, the first to the next."""
    edges = [0, *(np.flatnonzero(np.diff(band)) + 1).tolist(), len(band)]
    found: list[tuple[int, int, int]] = []
    for start, stop in pairwise(edges):
        own = int(band[start])
        if found and (stop - start < shortest or found[-1][2] == own):
            found[-1] = (found[-1][0], stop, found[-1][2])
        elif len(found) == 1 and found[0][1] - found[0][0] < shortest:
            found[0] = (0, stop, own)
        else:
            found.append((start, stop, own))
    return found


def timeline(events: Sequence[Event], several: bool = False) -> str:
    """A line for each event: '   1.20 -   1.80 s  right elbow bends moderately'; several: who it is stands before."""
    return "\n".join(f"{each.start:7.2f} - {each.end:6.2f} s  {f'person {each.person}: ' if several else ''}{each.phrase}"
                     for each in events)  # fmt: skip
