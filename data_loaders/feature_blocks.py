"""Named columns of every kind of features: what a row holds, in the order it holds it. Widths follow from these."""

from functools import lru_cache


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


RIFKE = _in_order({"root_height": 1, "joints": 60, "turn": 1, "velocity": 2})  # 64; data_loaders/rifke.py
TEMOS_ROTATIONS = _in_order({"root_height": 1, "root_velocity": 2, "rot": 6 * 22})  # 135; Petrovich et al. 2022, SMPL
MDM_ROTATIONS = _in_order({"rot": 6 * 24, "translation": 6})  # 150; Tevet et al. 2023, actions: three zeros fill up
