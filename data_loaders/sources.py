"""One raw recording as `mocap.read_joints` takes it, and as a preparation knows it."""

from dataclasses import dataclass, field
from pathlib import Path

from data_loaders.text import Caption

SUFFIXES = {"bvh": (".bvh",), "amass": (".npz",), "joints": (".npy",)}  # of the files of each kind


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
