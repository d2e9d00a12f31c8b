"""One raw recording as `mocap.read_joints` takes it and as a preparation knows it, and how motion files are read."""

from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal

import msgspec

from data_loaders.text import Caption
from protos.flags import Range, check_bounds

SUFFIXES = {"bvh": (".bvh",), "amass": (".npz",), "joints": (".npy",)}  # of the files of each kind
Kind = Literal["bvh", "amass", "joints", "any"]  # any: what the suffix says


def suffixes_of(kind: str) -> tuple[str, ...]:
    """Suffixes of the files of a kind, or of any."""
    return SUFFIXES.get(kind) or tuple(suffix for suffixes in SUFFIXES.values() for suffix in suffixes)


def kind_of(kind: str, file: str) -> str:
    """The kind of a file: the one that is said, or what its suffix says."""
    suffix = PurePosixPath(file).suffix.lower()
    return kind if kind in SUFFIXES else next(each for each, suffixes in SUFFIXES.items() if suffix in suffixes)


@dataclass(frozen=True)
class Placement:
    """Where the second of two who were recorded apart is put, when both start at the origin facing +Z: turned about +Y, moved by
    metres (x, z), later by seconds, in which the first pose is held."""

    person2_offset_m: tuple[float, float] = (0.0, 0.0)
    person2_yaw_deg: float = 0.0
    person2_delay_s: Annotated[float, msgspec.Meta(ge=0, le=3600)] = 0.0


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
    people: tuple["SourceClip", ...] = ()  # two who were recorded together, in one world: their own recordings
    placement: Placement | None = None  # of the second, where they were recorded apart

    @property
    def files(self) -> tuple[str, ...]:
        """The files that it is read from."""
        return tuple(person.file for person in self.people) or (self.file,)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How motion files are read that do not say it themselves."""

    mapping: str | None = None
    """BVH: TOML/JSON file, or the name of a shipped one, that maps the file's joints to ours (default: the shipped one that
    fits the joints' names)."""
    motion_fps: Annotated[float, Range(0.1, 10_000)] | None = None
    """Frames per second of joints in .npy or .npz files (default: what the file says, else that of the model)."""
    body_model: Path | None = None
    """AMASS: folder of the licensed SMPL+H / SMPL body model files."""

    def __post_init__(self) -> None:
        check_bounds(self, "--")
