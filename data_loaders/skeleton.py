"""Skeletons as data: names, tree, rest directions, left and right, units. A new body is a JSON file, not code."""

from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Literal

from protos.reading import FileError, convert, read_json

FOLDER = Path(__file__).parent / "skeletons"
ALIASES = {"t2m": "humanml", "humanml3d": "humanml", "kit-ml": "kit", "kit_ml": "kit"}

Heading = Literal["published", "continuous"]
HEADINGS: tuple[Heading, ...] = ("published", "continuous")  # how a body's heading is taken, see data_loaders/headings.py


@dataclass(frozen=True)
class Skeleton:
    """One body. Indices count joints; lengths are in the skeleton's own unit (`metres_per_unit` leads to metres).

    Facing +Z with Y up, the left side lies at +X. `chains` are the kinematic chains of the published features: their
    order and their starts matter, because every chain starts at the ROOT rotation (see `bone_rotations`).
    """

    name: str
    joint_names: tuple[str, ...]
    parents: tuple[int, ...]  # -1 for the root, always lower than the joint
    chains: tuple[tuple[int, ...], ...]
    raw_offsets: tuple[tuple[float, float, float], ...]  # unit rest direction of the bone that ends at the joint
    bone_lengths: tuple[float, ...] | None  # of the target body every clip is brought to; None: clips keep their own
    left_joints: tuple[int, ...]
    right_joints: tuple[int, ...]  # mirror partners, in the order of left_joints
    face_joints: tuple[int, int, int, int]  # right hip, left hip, right shoulder, left shoulder
    left_feet: tuple[int, int]  # ankle, toe
    right_feet: tuple[int, int]
    leg_joints: tuple[int, int]  # bones ending here measure the leg when bodies are scaled
    metres_per_unit: float
    contact_threshold: float  # squared displacement from a frame to the next at contact_fps, own unit
    contact_fps: float
    left_hand: tuple[int, ...] = ()  # finger joints of files that carry them beyond num_joints
    right_hand: tuple[int, ...] = ()
    t_pose: tuple[tuple[float, float, float], ...] | None = None  # direction of each bone, facing +Z with the arms out; else raw
    hinges: dict[str, tuple[float, float, float]] = field(default_factory=dict)  # in T-pose, what knees and elbows bend about
    mixamo_names: tuple[str, ...] | None = None  # of the joints, in files for other programs; None: joint_names
    unity_names: tuple[str, ...] | None = None
    unreal_names: tuple[str, ...] | None = None
    source: str = ""

    def __hash__(self) -> int:  # quick: skeletons key the caches of their tensors; equality still compares everything
        return hash(self.name)

    @property
    def num_joints(self) -> int:
        """Joints of the body."""
        return len(self.parents)

    @property
    def feet(self) -> tuple[int, int, int, int]:
        """Left ankle and toe, right ankle and toe: the order of the contact features."""
        return self.left_feet + self.right_feet

    @cached_property
    def rotation_parents(self) -> tuple[int, ...]:
        """The bone whose rotation a joint's local rotation is relative to; 0 (the root) where a chain starts.

        Differs from `parents` at the arms: they hang on the spine but turn relative to the root.
        """
        parents = [-1] * self.num_joints
        for chain in self.chains:
            for position, joint in enumerate(chain[1:]):
                parents[joint] = 0 if position == 0 else chain[position]
        return tuple(parents)

    @cached_property
    def ancestors(self) -> tuple[tuple[int, ...], ...]:
        """Per joint the bones between the root and it, itself included; the root has none."""
        lines: list[tuple[int, ...]] = []
        for joint, parent in enumerate(self.parents):
            lines.append(() if parent < 0 else lines[parent] + (joint,))
        return tuple(lines)

    def index(self, joint_name: str) -> int:
        """Number of a joint. FileError where there is none of that name."""
        if joint_name not in self.joint_names:
            raise FileError(f"{self.name} has no joint {joint_name!r}; it has {', '.join(self.joint_names)}")
        return self.joint_names.index(joint_name)


def check_heading(heading: str) -> Heading:
    """The mode if it is one; ValueError otherwise."""
    if heading not in HEADINGS:
        raise ValueError(f"unknown heading {heading!r}: use one of {', '.join(HEADINGS)}")
    return heading  # type: ignore[return-value]


def known_skeletons() -> list[str]:
    """Names of those that come with the code."""
    return sorted(file.stem for file in FOLDER.glob("*.json"))


@lru_cache(maxsize=32)
def load_skeleton(name_or_path: str | Path) -> Skeleton:
    """Skeleton by name (`humanml` = `t2m`, `kit`) or from a JSON file of the same form. FileError if unusable."""
    name = str(name_or_path)
    path = FOLDER / f"{ALIASES.get(name.lower(), name.lower())}.json"
    if not path.is_file():
        path = Path(name_or_path)
    if not path.is_file():
        raise FileError(f"unknown skeleton {name!r}: use one of {', '.join(known_skeletons())}, or the path of a skeleton file")
    record = read_json(path, dict[str, Any])
    record.pop("length_limits", None)  # of files by earlier versions, whose fps was that of the contacts
    if "fps" in record:
        record.setdefault("contact_fps", record.pop("fps"))
    known_fields = {each.name for each in fields(Skeleton)}
    for key in record:
        if key not in known_fields:
            raise FileError(f"{path}: unknown entry {key!r}")
    skeleton = convert(record, Skeleton, str(path))
    _check(skeleton, path)
    return skeleton


def _check(skeleton: Skeleton, path: Path) -> None:
    count = skeleton.num_joints
    for name in ("joint_names", "raw_offsets", "bone_lengths", "t_pose", "mixamo_names", "unity_names", "unreal_names"):
        value = getattr(skeleton, name)
        if value is not None and len(value) != count:
            raise FileError(f"{path}: {name} has {len(value)} entries, parents has {count}")
    named = (skeleton.left_joints, skeleton.right_joints, skeleton.face_joints, skeleton.feet, skeleton.leg_joints)
    for joint in (joint for group in named for joint in group):
        if not 0 <= joint < count:
            raise FileError(f"{path}: names joint {joint}, parents has {count}")
    for name in skeleton.hinges:
        skeleton.index(name)
    for name in ("contact_fps", "metres_per_unit"):
        if not 0 < getattr(skeleton, name) <= 10_000:
            raise FileError(f"{path}: {name} = {getattr(skeleton, name):g}, expected more than 0")
    for joint, parent in enumerate(skeleton.parents):
        if not (parent == -1 if joint == 0 else 0 <= parent < joint):
            raise FileError(f"{path}: joint {joint} has parent {parent}; parents come before their children")
    for joint, parent in ((chain[i + 1], chain[i]) for chain in skeleton.chains for i in range(len(chain) - 1)):
        if not 0 < joint < count or skeleton.parents[joint] != parent:
            raise FileError(f"{path}: a chain leads from joint {parent} to {joint}, which is not its child")
    if sorted(joint for chain in skeleton.chains for joint in chain[1:]) != list(range(1, count)):
        raise FileError(f"{path}: every joint but the root must be in exactly one chain")
    if len(skeleton.left_joints) != len(skeleton.right_joints):
        raise FileError(f"{path}: left_joints and right_joints must pair up")
