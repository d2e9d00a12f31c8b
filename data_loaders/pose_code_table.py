"""The vocabulary of pose codes: 70 groups of 392 codes, of each of which a pose has exactly one. CoMo and PGR2M are trained on
it.

The published names are wrong in two ways that the numbers are not. Groups 31 to 33 bear one another's names, and what they call
left and behind is right and before of a body that faces +Z, since joints are turned by 180 degrees before they are read. Our
words say what is measured; published names stay at hand for what others wrote with them. """

from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

from protos.reading import read_json

TABLE = Path(__file__).with_name("pose_code_table.json")
KINDS = ("angle", "distance", "relX", "relY", "relZ", "relV", "ground")  # in the order of the codes
TURNED = ("relX", "relZ")  # read after the half turn: of the opposite sign to the joints' own axes
STRIDE = 4  # frames of a token
RATES = {"humanml": 20.0, "kit": 12.5}  # frames a second of the motions that the published models read


@dataclass(frozen=True)
class Kind:
    """What all groups of a kind share: upper bounds of their bins (the last has none), and a label and our words for each bin.

    jitter: how far a value is moved at most before it is binned, in degrees or metres, in codes made for training.
    """

    name: str
    operator: str
    unit: str
    thresholds: tuple[float, ...]
    jitter: float
    labels: tuple[str, ...]
    words: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class _File:
    source: str
    licence: str
    joints: tuple[str, ...]
    kit_joints: tuple[int, ...]  # of KIT's joints, the one in each place of the 22; -1: there is none
    kinds: tuple[Kind, ...]
    limbs: dict[str, str]
    official_pairs: dict[str, str]


class Group(NamedTuple):
    """One of the 70: its number, kind, joints by name, and its first code."""

    number: int
    kind: Kind
    joints: tuple[str, ...]
    first: int

    @property
    def bins(self) -> int:
        return len(self.kind.labels)

    @property
    def key(self) -> str:
        """'relY left_hand left_shoulder': kind and joints; of angles the joint that bends."""
        return f"{self.kind.name} {' '.join(self.joints[1:2] if self.kind.name == 'angle' else self.joints)}"


class Reflection(NamedTuple):
    """Where a group goes in a mirror: the group of the other side, and whether its bins change their order."""

    group: int
    reverse: bool


@dataclass(frozen=True)
class PoseCodeTable:
    """Kinds and groups, with their names."""

    file: _File

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        """All 70, in the order of the codes."""
        found: list[Group] = []
        first = 0
        for kind in self.file.kinds:
            for joints in kind.groups:
                found.append(Group(len(found), kind, joints, first))
                first += len(kind.labels)
        return tuple(found)

    @cached_property
    def width(self) -> int:
        """Codes of a pose: 392. The next two bits of a sequence, END and PAD, are of the transformers."""
        return self.groups[-1].first + self.groups[-1].bins

    @cached_property
    def by_key(self) -> dict[str, Group]:
        """Groups by 'relY left_hand left_shoulder'."""
        return {group.key: group for group in self.groups}

    @cached_property
    def group_of(self) -> tuple[int, ...]:
        """Number of the group of each of the 392 codes."""
        return tuple(group.number for group in self.groups for _ in range(group.bins))

    def pair(self, group: Group, official: bool = True) -> str:
        """'L-hand vs R-hand', the published way of naming joints; not official: without the names that are mixed up."""
        joints = group.joints[1:2] if group.kind.name == "angle" else group.joints
        own = " vs ".join(joint.replace("left_", "L-").replace("right_", "R-") for joint in joints)
        return self.file.official_pairs.get(str(group.number), own) if official else own

    def official_name(self, code: int) -> str:
        """'L-hand vs R-hand relX at the right of', the published name of a code by which it is edited."""
        group = self.groups[self.group_of[code]]
        return f"{self.pair(group)} {group.kind.name} {group.kind.labels[code - group.first]}"

    def subject(self, group: Group) -> tuple[str, str]:
        """What stands before and behind our words for a bin: ('left hand', 'left shoulder')."""
        joints = [joint.replace("_", " ") for joint in group.joints]
        if group.kind.name == "angle":
            return joints[1], ""
        if group.kind.name == "distance":
            return " and ".join(joints), ""
        if group.kind.name == "relV":
            return self.file.limbs[" ".join(group.joints)], ""
        return joints[0], "".join(joints[1:])

    def words(self, code: int) -> str:
        """'left hand above left shoulder', what is measured. Left, right, before and behind are those of the world in which a
        body faces +Z, as it does at the beginning of a clip: of a body that turned round they are not its own."""
        group = self.groups[self.group_of[code]]
        return " ".join(filter(None, self._around(group, code - group.first)))

    def _around(self, group: Group, place: int) -> tuple[str, str, str]:
        before, behind = self.subject(group)
        return before, group.kind.words[place], behind

    @cached_property
    def official_codes(self) -> dict[str, int]:
        """Codes by their published names."""
        return {self.official_name(code): code for code in range(self.width)}

    @cached_property
    def worded_codes(self) -> dict[str, int]:
        """Codes by our words."""
        return {self.words(code): code for code in range(self.width)}

    @cached_property
    def reflections(self) -> tuple[Reflection, ...]:
        """Of each group: left and right joints change places, and x its sign."""
        swap = {"left": "right", "right": "left"}
        found = []
        for group in self.groups:
            joints = tuple("_".join(swap.get(part, part) for part in joint.split("_")) for joint in group.joints)
            same = next((each for each in self.groups if each.kind == group.kind and each.joints == joints), None)
            other = same or next(each for each in self.groups if each.kind == group.kind and each.joints == joints[::-1])
            signed = group.kind.name in ("relX", "relY", "relZ")
            found.append(Reflection(other.number, signed and (same is None) != (group.kind.name == "relX")))
        return tuple(found)


@lru_cache(maxsize=1)
def pose_code_table() -> PoseCodeTable:
    """The published vocabulary."""
    return PoseCodeTable(read_json(TABLE, _File))
