"""Body models of the SMPL family: every spelling of their files is found, and old pickles are read without running anything."""

import numpy as np
import pytest

from data_loaders.body_models import default_body_model, find_body_model, load_body_model, load_surface
from protos.reading import FileError
from tests.synthetic_bodies import smpl_arrays, write_old_pickle, write_smpl

SPELLINGS = [
    ("SMPL_NEUTRAL.pkl", "neutral"), ("SMPL_MALE.npz", "male"), ("smpl/SMPL_FEMALE.pkl", "female"),
    ("basicModel_neutral_lbs_10_207_0_v1.0.0.pkl", "neutral"), ("basicModel_f_lbs_10_207_0_v1.0.0.pkl", "female"),
    ("smpl/models/basicmodel_m_lbs_10_207_0_v1.1.0.pkl", "male"), ("smplh/neutral/model.npz", "neutral"),
    ("smplh/SMPLH_MALE.pkl", "male"), ("smplx/SMPLX_NEUTRAL.npz", "neutral"), ("female/model.npz", "female"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "gender"), SPELLINGS)
def test_every_spelling_is_found_for_its_gender_only(tmp_path, name, gender):
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_bytes(b"")
    assert find_body_model(tmp_path, gender) == tmp_path / name
    for other in {"male", "female", "neutral"} - {gender}:
        with pytest.raises(FileError, match=f"no {other} body model.*there is {gender}"):
            find_body_model(tmp_path, other)


def test_the_family_that_is_asked_for_comes_first(tmp_path):
    for name in ("smpl/SMPL_NEUTRAL.pkl", "smplh/neutral/model.npz", "smplx/SMPLX_NEUTRAL.npz"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_bytes(b"")
    assert find_body_model(tmp_path, "neutral", "smpl").name == "SMPL_NEUTRAL.pkl"
    assert find_body_model(tmp_path, "neutral").name == "model.npz"
    assert find_body_model(tmp_path, "neutral", "smplx").name == "SMPLX_NEUTRAL.npz"


def test_body_models_lie_where_published_scripts_put_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert default_body_model("neutral") is None
    there = write_smpl(tmp_path / "body_models/smpl/SMPL_NEUTRAL.npz")
    assert default_body_model("neutral").resolve() == there
    with pytest.raises(FileError, match="no male body model"):
        default_body_model("male")
    ours = write_smpl(tmp_path / "checkpoints/official/smpl/SMPL_NEUTRAL.npz")
    assert default_body_model("neutral").resolve() == ours


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_with_objects_of_chumpy_holds_the_same_body(tmp_path, protocol):
    changes = {} if protocol < 4 else {"v_template": smpl_arrays()["v_template"]}  # sets are opcodes of their own from 4 on
    path = write_old_pickle(tmp_path / "basicModel_neutral_lbs_10_207_0_v1.0.0.pkl", protocol, **changes)
    plain = write_smpl(tmp_path / "plain.npz")
    old, new = load_body_model(path), load_body_model(plain)
    assert old.parents == new.parents and old.parents[0] == -1
    for name in ("template", "shape_directions", "regressor"):
        np.testing.assert_allclose(getattr(old, name), getattr(new, name), atol=1e-15)
    for one, other in zip(vars(load_surface(path)).values(), vars(load_surface(plain)).values()):
        np.testing.assert_array_equal(one, other)


class Runs:
    def __reduce__(self):
        return print, ("ran",)


def sparse_of(**state):
    from scipy.sparse import csc_matrix

    matrix = csc_matrix(np.eye(24, 144))
    matrix.__dict__.update(state)
    return matrix


@pytest.mark.parametrize(("changes", "expected"), [
    ({"J": Runs()}, "asks for __builtin__.print"),
    ({"J_regressor": sparse_of(indptr=np.array([0, 1 << 60]))}, "do not belong together"),
    ({"J_regressor": sparse_of(_shape=(1_000_000, 1_000_000))}, "numbers"),
    ({"J_regressor": sparse_of(indices=np.full(24, 99))}, "not a pickle of plain values and arrays, or a damaged one"),
    ({"weights": np.zeros((144, 23))}, "do not belong to 144 vertices and 24 joints"),
    ({"f": np.array([[0, 1, 144]])}, "f names vertices from 0 to 144, there are 144"),
    ({"posedirs": np.full((144, 3, 207), np.nan)}, "NaN or infinity in posedirs"),
    ({"v_template": "none"}, "no v_template"),
])  # fmt: skip
def test_hostile_and_damaged_body_models_end_in_one_line(tmp_path, capsys, changes, expected):
    path = write_old_pickle(tmp_path / "SMPL_NEUTRAL.pkl", **changes)
    with pytest.raises(FileError, match=expected) as caught:
        load_surface(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value) and "ran" not in capsys.readouterr().out
