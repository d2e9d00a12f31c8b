"""Where raw recordings come from: each source lists `SourceClip`s with captions, split and the mapping that retargets them.

A source only lists and labels; reading and converting happen in `prepare`, recording by recording, in worker processes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from data_loaders.clip_labels import ClipRecord, Known, Labels
from data_loaders.input_files import Found, Inventory, contents, recording_names
from data_loaders.text import Caption

SUFFIXES = {
    "bvh": (".bvh",), "bandai_namco": (".bvh",), "cmu_sample": (".bvh",), "amass": (".npz",), "joints": (".npy",)
}  # fmt: skip


@dataclass(frozen=True)
class SourceClip:
    """One raw recording: its bytes or path, how to read it (`kind`) and what is known about it."""

    name: str
    data: bytes | Path
    kind: str  # bvh | amass | joints
    mapping: str | None = None
    captions: tuple[Caption, ...] = ()
    split: str = "train"
    labels: dict = field(default_factory=dict)
    first_frame: int = 0
    fps: float | None = None
    file: str = ""  # its path in the input folder, which is its identity
    stamp: str = ""  # changes when the file does
    notes: tuple[str, ...] = ()  # what the report says about it beside
    left_out: str = ""  # why it is not read at all: a word of `LEFT_OUT`
    reason: str = ""  # the same in words


LEFT_OUT = ("damaged", "excluded", "without caption")  # before anything was read


def listed(inventory: Inventory, labels: Labels, source: Callable[[Found, str, Known], SourceClip]) -> list[SourceClip]:
    """Every recording of a folder, in the order of their names, those that are left out with the reason."""
    names = recording_names([found.file for found in inventory.recordings])
    clips = []
    for found in inventory.recordings:
        known = labels.of(found, names[found.file])
        clip = source(found, names[found.file], known)
        clip = replace(clip, file=found.file, stamp=found.stamp, notes=(*clip.notes, *known.notes))
        if found.problem or known.problem:
            clip = replace(clip, left_out="damaged", reason=found.problem or known.problem)
        elif not clip.captions and not clip.left_out:
            why = "no caption (captions.json or NAME.txt beside the clip)"
            why = f"no caption ({labels.path} names it, and gives none)" if known.described else why
            why = f"no caption ({known.notes[0]})" if known.notes else why
            clip = replace(clip, left_out="without caption", reason=why)
        clips.append(clip)
    return sorted(clips, key=lambda clip: clip.name)


def with_data(inventory: Inventory, clips: list[SourceClip]) -> Iterator[SourceClip]:
    """The recordings with their bytes or path; those that turn out to be unreadable say so."""
    by_file = {clip.file: clip for clip in clips}
    for found, data in contents(found for found in inventory.recordings if found.file in by_file):
        clip = by_file[found.file]
        yield replace(clip, left_out="damaged", reason=data) if isinstance(data, str) else replace(clip, data=data)


def bandai_namco(labels: Labels) -> Callable[[Found, str, Known], SourceClip]:
    """The Bandai-Namco-Research-Motiondataset, as cloned or repacked. Kobayashi et al. 2022, arXiv 2306.08861."""

    def clip(found: Found, name: str, known: Known) -> SourceClip:
        record, captions = known.record, known.captions
        if not known.described and not captions:
            record, captions = _bandai_namco_label(found.stem)
        facts = {key: value for key in ("content", "style", "take") if (value := getattr(record, key)) is not None}
        # Takes are cut from continuous recordings: neighbours go to the same split.
        block = f"{facts.get('content')} {facts.get('style')} {facts.get('take', 0) // 8}"
        made = SourceClip(name, b"", "bvh", "bandai_namco", captions, labels.split_of(found, name, record, block), facts)
        if labels.is_excluded(found, name):
            return replace(made, left_out="excluded", reason="named in excluded.txt")
        return made

    return clip


def cmu_sample(labels: Labels) -> Callable[[Found, str, Known], SourceClip]:
    """CMU clips in the two common BVH conversions, told apart by their prefix."""

    def clip(found: Found, name: str, known: Known) -> SourceClip:
        mapping = "cmu_cgspeed" if found.stem.startswith("cgspeed") else "cmu_iclone"
        facts = {"content": known.record.cmu_description or name}
        split = labels.split_of(found, name, known.record)
        return SourceClip(name, b"", "bvh", mapping, known.captions, split, facts, known.record.first_frame or 0)

    return clip


def any_folder(labels: Labels, kind: str, mapping: str | None, fps: float | None) -> Callable[[Found, str, Known], SourceClip]:
    """A user's own folder of .bvh, AMASS .npz or joints .npy; captions from captions.json or NAME.txt beside the clip."""

    def clip(found: Found, name: str, known: Known) -> SourceClip:
        record = known.record
        split = labels.split_of(found, name, record)
        return SourceClip(name, b"", kind, mapping, known.captions, split, record.labels or {}, record.first_frame or 0, fps)

    return clip


# What the file names of the Bandai-Namco set say, for clones that come without a caption file.
_CONTENTS = {
    "bow": "bows", "bye": "waves goodbye with the right hand", "byebye": "waves goodbye with both hands",
    "call": "puts both hands around the mouth and calls out", "dance-short": "dances", "dance-long": "dances",
    "dash": "sprints forward", "guide": "shows the way with the right hand", "kick": "kicks with the right leg",
    "punch": "throws punches", "respond": "raises the left hand to respond", "run": "runs forward",
    "slash": "slashes with a sword held in both hands", "walk": "walks forward", "walk-back": "walks backward",
    "walk-left": "walks diagonally to the left", "walk-right": "walks diagonally to the right",
    "walk-turn-left": "walks forward and turns left", "walk-turn-right": "walks forward and turns right",
    "wave-left-hand": "waves the left hand", "wave-right-hand": "waves the right hand",
    "wave-both-hands": "waves both hands", "raise-up-left-hand": "raises the left hand",
    "raise-up-right-hand": "raises the right hand", "raise-up-both-hands": "raises both hands",
}  # fmt: skip
_STYLES = {
    "chimpira": "like a street thug", "musical": "as on a musical stage", "normal": "", "not-confident": "without confidence",
    "giant": "like a giant", "masculinity": "in a masculine manner",
}  # fmt: skip


def _bandai_namco_label(name: str) -> tuple[ClipRecord, tuple[Caption, ...]]:
    parts = name.split("_")
    if len(parts) != 4 or parts[1] not in _CONTENTS or not (parts[3].isascii() and parts[3].isdigit()):
        return ClipRecord(), ()
    manner = _STYLES.get(parts[2], f"in a {parts[2]} manner")
    sentence = f"{_CONTENTS[parts[1]]} {manner}".strip()
    captions = [f"a person {sentence}", f"someone {sentence}", f"the person {sentence}"]
    return ClipRecord(content=parts[1], style=parts[2], take=int(parts[3])), tuple(map(Caption, captions))
