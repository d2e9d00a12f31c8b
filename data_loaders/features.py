"""What a row of numbers means, the way between rows and joints in metres, and mean and std, for every kind of motion features.

A new kind is its columns below, its file beside this one, and an entry in `KINDS`. Arrays of any kind are
(..., T, persons * width), person 1 first.
"""

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_loaders.skeleton import Skeleton, check_heading, load_skeleton
from protos.files import atomic_file, shown
from protos.reading import FileError, convert, read_arrays, read_json

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

FRAME_RATES = (0.1, 10_000.0)
PUBLISHED_STATISTICS = Path(__file__).with_name("published_statistics.json")


class FeaturesMismatch(ValueError):
    """Two things that were made for different motion features were about to be mixed, or features of another width."""


def _in_order(widths: dict[str, int]) -> dict[str, slice]:
    blocks, start = {}, 0
    for name, width in widths.items():
        blocks[name] = slice(start, start + width)
        start += width
    return blocks


@lru_cache(maxsize=32)
def humanml_blocks(num_joints: int) -> dict[str, slice]:
    """Guo et al. 2022: root_yaw (half angle per frame), root_velocity (x, z per frame), root_height, ric (joints 1.. about
    the root), rot (6D), local_velocity (all joints), contact (left ankle, toe, right ankle, toe): 263 columns of 22 joints.
    """
    others = num_joints - 1
    return _in_order({
        "root_yaw": 1, "root_velocity": 2, "root_height": 1, "ric": 3 * others, "rot": 6 * others,
        "local_velocity": 3 * num_joints, "contact": 4,
    })  # fmt: skip


@lru_cache(maxsize=32)
def interhuman_blocks(num_joints: int) -> dict[str, slice]:
    """Liang et al. 2024 (InterGen), of one person: positions (x, y, z in the world), velocities (per frame, in the world), rot
    (6D, joints 1..), contact (left ankle, toe, right ankle, toe): 262 columns of 22 joints.
    """
    return _in_order({"positions": 3 * num_joints, "velocities": 3 * num_joints, "rot": 6 * (num_joints - 1), "contact": 4})


RIFKE = _in_order({"root_height": 1, "joints": 60, "turn": 1, "velocity": 2})  # 64; data_loaders/rifke.py
TEMOS_ROTATIONS = _in_order({"root_height": 1, "root_velocity": 2, "rot": 6 * 22})  # 135; Petrovich et al. 2022, SMPL
MDM_ROTATIONS = _in_order({"rot": 6 * 24, "translation": 6})  # 150; Tevet et al. 2023, actions: three zeros fill up


@dataclass(frozen=True)
class Kind:
    """A kind of features. `codec`: the module beside this one, loaded when used, whose `joints_from_features` and
    `features_from_clips` lead from rows to joints in the skeleton's unit and back; none where rotations need a body model."""

    blocks: Callable[[str], dict[str, slice]]  # columns of one person, by the name of a skeleton
    codec: str = ""
    last_read: str = ""  # the block with which the columns end that joints are decoded from
    persons: int = 1
    in_world: bool = False  # whether columns hold places in a world, which a window of a clip does not start at the origin of


KINDS = {
    "humanml": Kind(lambda skeleton: humanml_blocks(load_skeleton(skeleton).num_joints), "humanml_features", "ric"),
    "rifke": Kind(lambda skeleton: RIFKE, "rifke", "velocity"),
    "interhuman_person": Kind(lambda skeleton: interhuman_blocks(load_skeleton(skeleton).num_joints), "interhuman_features",
                              "positions", in_world=True),
    "interhuman": Kind(lambda skeleton: interhuman_blocks(load_skeleton(skeleton).num_joints), "interhuman_features",
                       "positions", persons=2, in_world=True),
    "rotations": Kind(lambda skeleton: TEMOS_ROTATIONS),
    "smpl_rot6d": Kind(lambda skeleton: MDM_ROTATIONS),
}


@dataclass(frozen=True)
class Features:
    """Skeleton (name), frames per second, how the heading was taken (data_loaders/headings.py), and the kind."""

    skeleton: str = "humanml"
    fps: float = 20.0
    heading: str = "published"
    kind: str = "humanml"

    @property
    def body(self) -> Skeleton:
        """The skeleton."""
        return load_skeleton(self.skeleton)

    @property
    def persons(self) -> int:
        """How many people a row describes."""
        return KINDS[self.kind].persons

    @property
    def in_world(self) -> bool:
        """Whether rows hold places in a world, so that a window of a clip is to be brought to the origin first."""
        return KINDS[self.kind].in_world

    @property
    def blocks(self) -> dict[str, slice]:
        """Columns of one person by name, in their order."""
        return KINDS[self.kind].blocks(self.skeleton)

    @property
    def width(self) -> int:
        """Columns of one person: 263 for the 22 joints of humanml."""
        return max(block.stop for block in self.blocks.values())

    @property
    def read_columns(self) -> int:
        """How many of the first columns joints are decoded from. FeaturesMismatch for rotations alone."""
        self._codec()
        return self.blocks[KINDS[self.kind].last_read].stop

    def joints(self, x: "Tensor") -> "Tensor":
        """Joints (..., T, J, 3) in metres, Y up, of features (..., T, width) in their units, of which the first
        `read_columns` are enough; of several persons (..., P, T, J, 3). Differentiable. FeaturesMismatch where they hold
        rotations only, or have another width.
        """
        codec = self._codec()
        if self.persons > 1:
            if x.shape[-1] % self.persons:
                raise FeaturesMismatch(f"{self.kind} motions have {self.persons} times {self.width} features, not {x.shape[-1]}")
            x = x.unflatten(-1, (self.persons, -1)).transpose(-3, -2)  # (..., P, T, width)
        if x.shape[-1] not in (self.width, self.read_columns):
            raise FeaturesMismatch(f"{self.skeleton} motions have {self.width} features (joints are decoded from the first "
                                   f"{self.read_columns}), these have {x.shape[-1]}")  # fmt: skip
        return codec.joints_from_features(x[..., : self.read_columns], self.body) * self.body.metres_per_unit

    def encode(self, joints: "Tensor | np.ndarray | list") -> "Tensor | list[Tensor]":
        """Features (T-1, width) float32 of joints (T, J, 3) in metres, Y up, or of each of a list of such: the last frame has
        no velocity. Of several persons (T-1, persons * width) of (P, T, J, 3), all in one world. `rifke` keeps all T.
        FeaturesMismatch where they hold rotations only, or joints are of another number of persons.
        """
        import torch

        codec = self._codec()
        clips = joints if isinstance(joints, list) else [joints]
        for clip in clips if self.persons > 1 else ():
            if clip.ndim != 4 or len(clip) != self.persons:
                raise FeaturesMismatch(f"{self.kind} motions are of {self.persons} persons, expected joints ({self.persons}, "
                                       f"frames, {self.body.num_joints}, 3), not {tuple(clip.shape)}")  # fmt: skip
        clips = [torch.as_tensor(clip) / self.body.metres_per_unit for clip in clips]
        made = codec.features_from_clips(clips, self.body, self.heading)
        return made if isinstance(joints, list) else made[0]

    def completed(self, x: "Tensor", columns: "list[int]") -> "Tensor":
        """Features (T, width) whose `columns` are those of x (T, C), the others (rotations, velocities) what follows from them.

        Rows tell what happens up to the next frame, so one frame is added at the end that goes on as the last two did.
        """
        import torch

        joints = self.joints(x[..., : self.read_columns])  # (T, J, 3)
        if not joints.isfinite().all():
            return x.new_full((len(x), self.width), torch.nan)
        following = 2 * joints[-1:] - joints[-2:-1] if len(joints) > 1 else joints[-1:]
        whole = self.encode(torch.cat([joints, following])).clone()  # (T, width)
        whole[:, columns] = x
        return whole

    def check(self, name: str) -> None:
        """FileError, naming the file `name`, where skeleton, fps, heading or kind are none that this program knows."""
        if self.kind not in KINDS:
            raise FileError(f"{name}: features of kind {shown(self.kind)}, expected one of {', '.join(KINDS)}")
        try:
            if not re.fullmatch(r"[\w-]{1,64}", self.skeleton):
                raise FileError(f"skeleton {shown(self.skeleton)}, expected a name such as humanml, not a path")
            if KINDS[self.kind].codec:  # rotations are of bodies that have no file here
                load_skeleton(self.skeleton)
            check_heading(self.heading)
        except ValueError as error:
            raise FileError(f"{name}: {error}") from None
        if not FRAME_RATES[0] <= self.fps <= FRAME_RATES[1]:
            raise FileError(f"{name}: fps {self.fps:g}, expected {FRAME_RATES[0]:g} to {FRAME_RATES[1]:g}")

    def require(self, other: "Features", mine: str, theirs: str) -> None:
        """FeaturesMismatch, naming both sides (words such as 'dataset x'), unless they are the same."""
        verbs = {"skeleton": "uses skeleton", "fps": "runs at fps", "heading": "has heading", "kind": "has features of kind"}
        for name, verb in verbs.items():
            here, there = getattr(self, name), getattr(other, name)
            if here != there:
                raise FeaturesMismatch(f"{mine} {verb} '{here}', {theirs} '{there}': choose a dataset and weights made alike, "
                                       "or prepare the data again")  # fmt: skip

    def record(self) -> dict[str, Any]:
        """What files hold of it: the kind only where it is another than humanml."""
        fields = asdict(self)
        return {name: value for name, value in fields.items() if (name, value) != ("kind", "humanml")}

    def _codec(self) -> Any:
        if not (module := KINDS[self.kind].codec):
            raise FeaturesMismatch(f"{self.kind} motion has rotations, no joints: it needs a body model")
        return import_module(f"data_loaders.{module}")


def kind_of_width(skeleton: str, width: int) -> str:
    """The kind of features of a file that says only its skeleton and has so many columns; humanml where none has."""
    fitting = (
        kind for kind, each in KINDS.items()
        if each.persons * max(block.stop for block in each.blocks(skeleton).values()) == width
    )  # fmt: skip
    return next(fitting, "humanml")


HUMANML3D = Features()  # as published


@dataclass(frozen=True)
class Statistics:
    """Mean and std (D,) of each column, and the features they belong to."""

    mean: "np.ndarray"
    std: "np.ndarray"
    features: Features

    def save(self, path: Path) -> None:
        """Writes an .npz of mean, std and the features they belong to."""
        import numpy as np

        with atomic_file(path) as file:
            np.savez(file, mean=self.mean, std=self.std, **self.features.record())

    @staticmethod
    def load(path: Path) -> "Statistics":
        """FileError names what is missing, not finite, or a std that is not above zero."""
        import numpy as np

        found = read_arrays(path, only=("mean", "std", "skeleton", "fps", "heading", "kind"))
        for name in ("mean", "std", "skeleton", "fps", "heading"):
            if name not in found:
                raise FileError(f"{path}: no array {name!r}, expected mean, std, skeleton, fps and heading")
        mean, std = found.pop("mean"), found.pop("std")
        if mean.ndim != 1 or mean.shape != std.shape or mean.dtype.kind != "f" or std.dtype.kind != "f":
            raise FileError(f"{path}: mean {mean.shape} and std {std.shape}, expected two rows of numbers of one length")
        with np.errstate(over="ignore", under="ignore"):  # as networks hold them
            single = mean.astype(np.float32), std.astype(np.float32)
        if not (np.isfinite(single).all() and (single[1] > np.finfo(np.float32).tiny).all()):
            raise FileError(f"{path}: mean and std must be finite and every std above 0, in float32 too")
        features = convert({name: value.item() if value.size == 1 else value.tolist() for name, value in found.items()},
                           Features, str(path))  # fmt: skip
        features.check(str(path))
        if "kind" not in found:  # by an earlier version
            features = replace(features, kind=kind_of_width(features.skeleton, len(mean)))
        return Statistics(mean, std, features)

    @staticmethod
    def published(name: str, features: Features, dtype: str = "float32") -> "Statistics | None":
        """A pair that is carried with the code, by its name in published_statistics.json; None for any other name. One of a
        person is that of each of several."""
        import numpy as np

        carried = read_json(PUBLISHED_STATISTICS, dict[str, dict[str, Any]]).get(name)
        if not carried:
            return None
        mean, std = (np.array(carried[each], dtype) for each in ("mean", "std"))
        times = features.persons if len(mean) == features.width else 1
        return Statistics(np.tile(mean, times), np.tile(std, times), features)
