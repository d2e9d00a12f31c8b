"""Physics of sets of motions, or of single ones, side by side: what a table of them shows."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from data_loaders.corpus import Motion
from data_loaders.kinematics import physics_summary
from data_loaders.skeleton import Skeleton, load_skeleton
from protos.tables import decimals, table

MEASURES = (  # as `kinematics.physics_summary` names them
    ("planted_foot_speed", "planted-foot speed, m/s", 3),
    ("jerk", "jerk, m/s³", 1),
    ("lowest_joint", "lowest joint over the clip, mean, m", 3),
    ("lowest_joint_min", "lowest joint over the clip, lowest, m", 3),
    ("lowest_joint_max", "lowest joint over the clip, highest, m", 3),
    ("bone_length_deviation", "bone-length deviation, %", 2),
    ("nan_count", "NaN values", 0),
    ("clips", "clips", 0),
)
OF_SETS = ("lowest_joint_min", "lowest_joint_max", "nan_count", "clips")  # of these, what a single motion has no use for
Physics = dict[str, float | None]
Measures = Sequence[tuple[str, str, int]]  # key, label and digits


def physics_of(motions: Iterable[np.ndarray], fps: float, skeleton: Skeleton) -> Physics:
    """`physics_summary` of joints [(T, J, 3)] in metres, with None for measures that they cannot tell: they are too short, or no
    foot is ever planted."""
    return {name: None if np.isnan(value) else value for name, value in physics_summary(motions, fps, skeleton).items()}


def physics_table(physics: Mapping[str, Physics], compared: tuple[str, str] | None = None,
                  measures: Measures = MEASURES) -> str:
    """A column for each set of motions, a row for each of the measures; `compared`: two of them whose ratio is shown too."""
    rows = []
    for key, label, digits in measures:
        row = [label, *(decimals(summary.get(key), digits) for summary in physics.values())]
        if compared:
            made, real = (physics[column][key] for column in compared)
            shown = key in ("planted_foot_speed", "jerk") and real and made is not None
            row.append(f"{made / real:.2f}" if shown else "")
        rows.append(row)
    text = table(["", *physics, *(["generated / real"] if compared else [])], rows)
    if any(value is None for summary in physics.values() for value in summary.values()):
        text += "\n\n–: these motions cannot tell it: they are too short, or no foot is ever planted."
    return text


def sample_table(motions: Mapping[str, Motion]) -> str:
    """A row for each person of the motions, by their names, a column for each of the measures."""
    measures, rows = [each for each in MEASURES if each[0] not in OF_SETS], []
    for name, motion in motions.items():
        for person, joints in enumerate(motion.joints, 1):
            found = physics_of([joints], motion.fps, load_skeleton(motion.skeleton))
            who = name if len(motion.joints) == 1 else f"{name}, person {person}"
            rows.append([who, *(decimals(found[key], digits) for key, _, digits in measures)])
    return table(["", *(label.replace(" over the clip, mean", "") for _, label, _ in measures)], rows)
