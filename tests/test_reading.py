"""The way in: text, JSON and numpy files are checked before anything is built from them."""

import io
import json
import zipfile
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pytest

from protos.flags import Range, check_bounds
from protos.reading import FileError, read_array, read_arrays, read_json, read_json_lines, read_lines, read_text, read_toml


@dataclass(frozen=True)
class Settings:
    layers: Annotated[int, Range(1, 64)] = 4
    rate: float = 1.0
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_bounds(self)


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def with_header(fields: str, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + fields.encode().ljust(117) + b"\n" + body


def test_text_with_and_without_a_mark_is_the_same(tmp_path):
    (tmp_path / "a").write_bytes("grüße\r\nb\rc\u2028d\n".encode())
    (tmp_path / "b").write_bytes(b"\xef\xbb\xbf" + "grüße\r\nb\rc\u2028d\n".encode())
    assert read_lines(tmp_path / "a") == read_lines(tmp_path / "b") == ["grüße", "b", "c\u2028d"]


@pytest.mark.parametrize("data, words", [
    ("ein Café".encode("cp1252"), "line 1: not UTF-8"), ("walk".encode("utf-16"), "UTF-16"), (b"a\0b", "zero bytes"),
])  # fmt: skip
def test_other_encodings_are_named_with_their_file(tmp_path, data, words):
    (tmp_path / "captions.txt").write_bytes(data)
    with pytest.raises(FileError, match=f"captions.txt.*{words}"):
        read_text(tmp_path / "captions.txt")


@pytest.mark.parametrize("text, words", [
    ('{"layers": "many"}', "layers: expected int, got str"),
    ('{"layers": 1000000000}', "layers must be from 1 to 64"),
    ('{"layers": true}', "layers: expected int, got bool"),
    ('{"rate": 1e999}', "rate: number out of range"),
    ('{"rate": NaN}', "line 1"),
    ('{"names": ["a", 3]}', r"names\[1\]: expected str, got int"),
    ('[1]', "expected object, got array"),
    ('{"layers": 1', "not readable JSON"),
    ("", "not readable JSON"),
    ("<!doctype html>", "HTML page"),
    ("version https://git-lfs.github.com/spec/v1\n", "git-LFS pointer"),
    ("[" * 100_000, "c.json"),
])  # fmt: skip
def test_a_wrong_field_of_json_is_named_with_file_and_type(tmp_path, text, words):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(FileError, match=words) as caught:
        read_json(tmp_path / "c.json", Settings)
    assert "c.json" in str(caught.value) and "\n" not in str(caught.value)


def test_json_and_toml_of_any_kind_are_bounded_in_depth(tmp_path):
    (tmp_path / "a.json").write_text("[" * 500 + "]" * 500)
    (tmp_path / "a.toml").write_text("a = " + "[" * 500 + "]" * 500)
    for read, name in ((read_json, "a.json"), (read_toml, "a.toml")):
        with pytest.raises(FileError, match="nested too deep"):
            read(tmp_path / name)


def test_a_last_json_line_that_a_kill_cut_short_is_left_out(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"step": 2}\n{"st')
    assert [row["step"] for row in read_json_lines(tmp_path / "log.jsonl")] == [1, 2]
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(FileError, match=r"log\.jsonl, line 2"):
        list(read_json_lines(tmp_path / "log.jsonl"))


@pytest.mark.parametrize("array", [
    np.zeros((3, 22, 3), np.float32), np.asfortranarray(np.arange(12.0).reshape(3, 4)), np.arange(5), np.float64(3.0),
    np.zeros((0, 3)), np.arange(4, dtype=">i2"),
])  # fmt: skip
def test_arrays_come_back_as_numpy_wrote_them(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    for read in (read_array(tmp_path / "a.npy"), read_array(tmp_path / "a.npy", mmap=True), read_array(npy(array))):
        np.testing.assert_array_equal(read, array)
        assert read.dtype == np.asarray(array).dtype.newbyteorder("=")


@pytest.mark.parametrize("data, words", [
    (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (100000000, 22, 3), }"), "claims an array"),
    (with_header("{'descr': '|O', 'fortran_order': False, 'shape': (), }", b"cos\nsystem\n"), "pickled"),
    (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }"), "claims an array"),
    (with_header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }"), "expected numbers"),
    (with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (11111111111111111111111111111,), }"), "claims an array"),
    (with_header("{'descr': '<M8', 'fortran_order': False, 'shape': (1,), }", bytes(8)), "expected numbers"),
    (npy(np.array(["walk"])), "expected numbers"),
    (npy(np.zeros(9))[:-3], "cut short"),
    (b"", "empty"), (b"<html>", "HTML page"), (b"version https://git-lfs.github.com/spec/v1", "git-LFS"), (b"text", "not a .npy"),
    (b"\x93NUMPY\x09\x00", "format 9.0"), (b"\x93NUMPY\x01\x00\xff\xff{", "header"),
])  # fmt: skip
def test_arrays_that_are_not_what_they_claim_are_refused_before_they_are_read(tmp_path, data, words):
    (tmp_path / "a.npy").write_bytes(data)
    with pytest.raises(FileError, match=words):
        read_array(tmp_path / "a.npy")


def test_shape_and_finite_values_are_checked_where_asked_for():
    with pytest.raises(FileError, match=r"shape \(2, 2\), expected \(any, 3\)"):
        read_array(npy(np.zeros((2, 2))), shape=(None, 3))
    with pytest.raises(FileError, match=r"NaN or infinity at \[1\]"):
        read_array(npy(np.array([0.0, np.nan])), finite=True)


def test_an_archive_of_arrays_is_read_by_name(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", mean=np.arange(3.0), skeleton="humanml", code=np.array([{}], object))
    with pytest.raises(FileError, match="array code: holds pickled"):
        read_arrays(tmp_path / "a.npz")
    arrays = read_arrays(tmp_path / "a.npz", only=("mean", "skeleton", "absent"))
    assert str(arrays["skeleton"]) == "humanml" and arrays["mean"].tolist() == [0, 1, 2] and len(arrays) == 2


def test_an_archive_that_unpacks_to_too_much_is_refused_before_it_is_unpacked(tmp_path):
    with zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        header = with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (5000000,), }")
        archive.writestr("motion.npy", header + bytes(20_000_000))
    with pytest.raises(FileError, match="motion: an array"):
        read_arrays(tmp_path / "bomb.npz", most=1_000_000)


def test_a_damaged_archive_is_named(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(100))
    whole = (tmp_path / "a.npz").read_bytes()
    for data in (whole[:-30], whole[:200] + b"\xff" * 20 + whole[220:], b"PK\x03\x04", npy(np.zeros(3))):
        (tmp_path / "a.npz").write_bytes(data)
        with pytest.raises(FileError, match=r"a\.npz"):
            read_arrays(tmp_path / "a.npz")


def test_every_kind_of_json_that_json_writes_comes_back(tmp_path):
    content = {"a": [1, 2.5, None, True, "ü"], "b": {"c": []}}
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert read_json(tmp_path / "a.json") == content


def test_an_archive_of_a_few_bytes_fills_no_memory(tmp_path):
    """300 MB of zeros, which other arrays of that size are not."""
    np.savez_compressed(tmp_path / "few.npz", joints=np.zeros((300_000, 263), np.float32))
    with pytest.raises(FileError, match=r"few\.npz, array joints: .* kB unpack to 315\.6 MB, more than such an array can need"):
        read_arrays(tmp_path / "few.npz")
    assert read_arrays(tmp_path / "few.npz", only=("other",)) == {}
