"""Every golden case of the parts that have handlers, through the functions behind `python -m tests.golden`."""

import json
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.golden.__main__ import main
from tests.golden.comparison import compare
from tests.golden.references import json_value, read_pickled_npy
from tests.golden.runner import PARTS, load_handlers, read_cases, run_case
from tests.shared import shared, shared_folder


def collected_cases():
    """(part, record) of every case; one placeholder where the shared data is absent, so that the skip is seen."""
    folder = shared_folder()
    for part in PARTS:
        built = any(Path(__file__).parent.joinpath("golden").glob(f"{part}_*.py"))
        if not built:
            continue
        if folder is None or not (folder / "golden" / part / "cases.json").is_file():
            yield pytest.param(part, None, id=part)
            continue
        for record in read_cases(folder / "golden" / part):
            yield pytest.param(part, record, id=f"{part}-{record['name']}")


@pytest.fixture(scope="module")
def handlers_of():
    loaded = {}

    def handlers(part):
        if part not in loaded:
            loaded[part] = load_handlers(part)[0]
        return loaded[part]

    return handlers


@pytest.mark.parametrize(("part", "record"), list(collected_cases()))
def test_golden_case_agrees_within_its_tolerance(part, record, handlers_of):
    folder = shared("golden", part)
    result = run_case(record, folder, handlers_of(part))
    if result.status in ("not yet", "absent"):
        pytest.skip(f"{result.status}: {result.detail}")
    assert result.status == "passed", f"{result.detail}\n{result.trace}"


CASE = SimpleNamespace(inputs={"mask": np.array([[True, False]]), "lengths": np.array([1, 2])}, expected={})


def judge(got, expected, load=None, **rule):
    return compare(got, expected, rule, CASE, load)


def test_tolerance_is_absolute_plus_relative():
    expected = np.array([1.0, 100.0])
    assert judge(expected + [0.0, 0.9], expected, atol=0.0, rtol=0.01).ok
    found = judge(expected + [0.5, 0.9], expected, atol=0.0, rtol=0.01)
    assert not found.ok and found.largest == 0.5


def test_overrides_replace_the_rule_for_their_columns_only():
    overrides = [{"columns": [2, 3], "exact": True}, {"columns": [0, 1], "atol": 1.0}]
    expected = np.zeros((2, 3))
    assert judge(expected + [0.5, 0.0, 0.0], expected, atol=1e-3, overrides=overrides).ok
    assert not judge(expected + [0.0, 0.5, 0.0], expected, atol=1e-3, overrides=overrides).ok
    assert not judge(expected + [0.0, 0.0, 1e-9], expected, atol=1e-3, overrides=overrides).ok


def test_entries_outside_the_valid_mask_do_not_count():
    expected = np.zeros((3, 2))
    assert judge(expected + [0.0, 9.0], expected, atol=1e-3, valid="inputs.mask").ok
    assert not judge(expected + [9.0, 0.0], expected, atol=1e-3, valid="inputs.mask").ok
    below = {"rule": "position_below_length", "lengths": "lengths", "batch_axis": 0, "axis": 1}
    assert judge(np.array([[0.0, 9.0], [0.0, 0.0]]), np.zeros((2, 2)), atol=1e-3, valid=below).ok
    assert not judge(np.array([[0.0, 0.0], [0.0, 9.0]]), np.zeros((2, 2)), atol=1e-3, valid=below).ok


def test_symmetries_of_quaternions_and_angles():
    q = np.array([[0.5, 0.5, 0.5, 0.5], [1.0, 0.0, 0.0, 0.0]])
    assert judge(q * [[-1.0], [1.0]], q, atol=1e-6, up_to_sign=True).ok
    assert not judge(q * [-1.0, 1.0, 1.0, 1.0], q, atol=1e-6, up_to_sign=True).ok
    assert judge(np.array([359.99]), np.array([-0.01]), atol=1e-6, period=360.0).ok


@pytest.mark.parametrize("got", [np.zeros(3), np.array([0.0, np.nan]), np.array(["a", "b"]), [0.0, 1e-3]])
def test_wrong_shape_nan_text_and_difference_fail(got):
    assert not judge(got, np.zeros(2), atol=1e-6).ok


def test_exact_records_compare_entry_by_entry():
    expected = {"name": "a", "n": 3, "parts": [{"flag": True}, {"flag": None}]}
    assert judge({"name": "a", "n": 3, "parts": ({"flag": True}, {"flag": None})}, expected, exact=True).ok
    assert "parts/1/flag" in str(judge({**expected, "parts": [{"flag": True}, {"flag": False}]}, expected, exact=True))
    assert not judge({**expected, "n": 4}, expected, exact=True).ok
    assert not judge({**expected, "more": 1}, expected, exact=True).ok


def test_json_keys_may_hold_slashes():
    document = {"cases": {"1000|10,10": [1], "a/b": {"c": 2}}, "list": [{"x": 3}]}
    assert json_value(document, "cases/1000|10,10") == [1]
    assert json_value(document, "cases/a/b/c") == 2
    assert json_value(document, "/list/0/x") == 3
    assert json_value(document, "/") is document


def test_pickles_load_arrays_and_nothing_else(tmp_path):
    np.save(tmp_path / "plain.npy", {"motion": np.ones(3), "text": ["a"]})
    assert read_pickled_npy(tmp_path / "plain.npy")["text"] == ["a"]
    np.save(tmp_path / "unsafe.npy", {"call": print})
    with pytest.raises(pickle.UnpicklingError, match="refused to load"):
        read_pickled_npy(tmp_path / "unsafe.npy")


def test_the_command_reads_cases_and_says_what_failed(tmp_path, capsys):
    """Cases that hold, that do not, that nobody handles and whose file is missing, in one folder made here."""

    def case(name, steps, op="space_timesteps", expected="kept.json:/steps"):
        keys = {"inputs": {}, "expected": {"kept": expected}}
        return {"name": name, "group": "respacing", "files": [], "keys": keys, "spec": "",
                "config": {"op": op, "T": 50, "sections": steps}, "compare": {"kept": {"exact": True}}}

    (tmp_path / "kept.json").write_text('{"steps": [0, 49]}')
    records = [case("holds", "2"), case("differs", "3"), case("unknown", "2", op="fly"),
               case("missing", "2", expected="gone.json:/steps")]
    (tmp_path / "cases.json").write_text(json.dumps(records))
    assert main(["lsremgm", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["passed", "failed", "not", "absent"]
    assert "gone.json" in lines[3] and lines[-1] == "1 passed, 1 failed"
    assert main(["lsremgm", str(tmp_path), "--only", "holds"]) == 0
    assert main(["lsremgm", str(tmp_path / "nowhere")]) == 2
    assert "has no cases.json" in capsys.readouterr().err
