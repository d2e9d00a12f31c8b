"""What edits keep: body parts told apart by columns, gaps by frames, ends by joints."""

import pytest
import torch

from data_loaders.edit_masks import (
    EditError,
    edit_mask,
    feature_mask,
    in_between_mask,
    joint_columns,
    lower_body_joints,
    target_location,
    target_rows,
)  # fmt: skip
from data_loaders.features import Features

PUBLISHED = {name: Features(name, fps, "published") for name, fps in (("humanml", 20.0), ("kit", 12.5))}


@pytest.mark.parametrize("name", ["humanml", "kit"])
def test_lower_and_upper_body_share_no_column_and_leave_none_out(name):
    lower, upper = (feature_mask(edit, PUBLISHED[name]) for edit in ("lower_body", "upper_body"))
    assert (lower ^ upper).all()
    assert lower[:4].all() and lower[-4:].all()  # root and contacts belong to the legs


@pytest.mark.parametrize("name", ["humanml", "kit"])
def test_keeping_the_lower_body_keeps_its_joints_where_they_were(name):
    features, skeleton = PUBLISHED[name], PUBLISHED[name].body
    real, other = torch.randn(1, 12, features.width), torch.randn(1, 12, features.width)
    mixed = torch.where(edit_mask("upper_body", features, torch.tensor([12]), 12), real, other)
    before, after = (features.joints(x) / skeleton.metres_per_unit for x in (real, mixed))
    lower = lower_body_joints(skeleton)
    upper = [joint for joint in range(skeleton.num_joints) if joint not in lower]
    assert torch.equal(after[:, :, lower], before[:, :, lower])
    assert ((after - before)[:, :, upper].abs().amax(dim=(1, 3)) > 0.1).all()


def test_horizontal_root_leaves_the_height_free():
    assert feature_mask("root_horizontal", PUBLISHED["humanml"]).nonzero().flatten().tolist() == [0, 1, 2]


def test_columns_of_all_joints_are_all_columns():
    assert joint_columns(PUBLISHED["humanml"], range(22), root=True, contacts=True).all()


def test_gap_is_measured_by_each_length():
    kept = in_between_mask(torch.tensor([10, 7]), 10)
    assert (~kept).sum(1).tolist() == [5, 4]
    assert kept[0].tolist() == [True] * 2 + [False] * 5 + [True] * 3
    with pytest.raises(EditError, match="gap"):
        in_between_mask(torch.tensor([10]), 10, 0.8, 0.2)


def test_unknown_edits_and_targets_are_named():
    with pytest.raises(EditError, match=r"middle_body.*in_between"):
        feature_mask("middle_body", PUBLISHED["humanml"])
    with pytest.raises(EditError, match="nose"):
        target_rows([["nose"]], [False])


def test_heading_target_turns_with_the_body():
    skeleton = PUBLISHED["humanml"].body
    features = torch.zeros(2, 4, 263)
    rest = torch.tensor(skeleton.raw_offsets) * 0.1
    position = rest.clone()
    for joint in range(1, 22):
        position[joint] = position[skeleton.parents[joint]] + rest[joint]
    features[:, :, 4:67] = position[1:].flatten()
    features[1, 0, 0] = 0.3  # half the turn of the root between the first two frames, world to body
    valid = target_rows([[], []], [True, True])
    heading = target_location(features, torch.tensor([4, 4]), valid, PUBLISHED["humanml"]).values[:, 7, 0]
    assert heading[0].abs() < 1e-6
    assert torch.isclose(heading[1].abs(), torch.tensor(0.6), atol=1e-5)
