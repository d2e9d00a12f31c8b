"""Pickles of plain values and arrays are read opcode by opcode; nothing in them is built or run."""

import pickle
import struct

import numpy as np
import pytest

from protos.pickles import read_plain_pickle
from protos.reading import FileError

PLAIN = {
    "motion": np.arange(24, dtype=np.float32).reshape(2, 3, 4), "text": ["a person walks", "grüße"], "lengths": np.array([3, 4]),
    "num_samples": 2, "scale": np.float64(0.5), "none": None, "flags": (True, False), "big": 1 << 80, "bytes": b"\xff\x00",
    "words": np.array(["sos", "unk"]), "swapped": np.arange(3, dtype=">i4"), "fortran": np.asfortranarray(np.eye(3)),
}  # fmt: skip


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_and_arrays_come_back_from_every_protocol(protocol):
    read = read_plain_pickle(pickle.dumps(PLAIN, protocol))
    assert list(read) == list(PLAIN)
    for key, value in PLAIN.items():
        np.testing.assert_array_equal(read[key], value)
        assert np.asarray(read[key]).dtype == np.asarray(value).dtype, key


def test_lists_that_are_shared_stay_small():
    value = ["walk"]
    for _ in range(60):  # 2^60 words, were each reference a copy
        value = [value, value]
    read = read_plain_pickle(pickle.dumps(value))
    assert read[0] is read[1]


class Runs:
    def __reduce__(self):
        return print, ("ran",)


def itself() -> list:
    value: list = []
    value.append(value)
    return value


@pytest.mark.parametrize("value, words", [(Runs(), "builtins.print"), ({1, 2}, "EMPTY_SET"), (itself(), "holds itself")])
def test_what_is_no_plain_value_is_refused(value, words, capsys):
    with pytest.raises(FileError, match=words):
        read_plain_pickle(pickle.dumps(value, 4))
    assert "ran" not in capsys.readouterr().out


def hostile_dtype(state: bytes) -> bytes:
    """A pickle that gives numpy's dtype a state of its author's choice."""
    return b"cnumpy\ndtype\n(U\x02f8I0\nI1\ntR" + state + b"b."


@pytest.mark.parametrize("data", [
    hostile_dtype(b"(I3\nU\x01|NNNI-1\nI-1\nI63\nt"), hostile_dtype(b"(I4\nU\x01<(U\x01a(U\x01bK\x08ttU\x01cI8\nI1\nI16\nt"),
    b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\ndtype\n(I0\ntU\x01btR.",
    b"cnumpy.core.multiarray\nscalar\n(cnumpy\ndtype\n(U\x01OI0\nI1\ntRU\x08AAAAAAAAtR.",
    b"(dp0\nU\x06motion\ng5\ns.", b"\x80\x04.", b"", b"\x80\x04]", b"cos\nsystem\n(U\x02lstR.", b"Q.", b"P1\n.",
    b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b".",
    b"\x80\x04\x8a" + struct.pack("<B", 255) + b"\xff" * 10 + b".",
])  # fmt: skip
def test_hostile_and_damaged_pickles_end_in_one_line(data):
    with pytest.raises(FileError, match=r"^evil.pkl: "):
        read_plain_pickle(data, "evil.pkl")


def test_no_mutation_of_a_real_pickle_does_more_than_fail():
    rng = np.random.default_rng(0)
    whole = bytearray(pickle.dumps({**PLAIN, "motion": PLAIN["motion"][:1]}, 3))
    for _ in range(1500):
        data = whole.copy()
        for place in rng.integers(0, len(data), rng.integers(1, 4)):
            data[place] = rng.integers(0, 256)
        try:
            read_plain_pickle(bytes(data[: rng.integers(1, len(data) + 1)] if rng.random() < 0.2 else data))
        except FileError as error:
            assert "\n" not in str(error)
