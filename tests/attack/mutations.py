"""What may be wrong with a file: mutations of real ones by their format, drawn by a seeded generator.

A mutation is (its class, the new bytes, whether it must be refused). A file that is damaged in a way that no reader can see,
such as another digit in a number, may be taken.
"""

import io
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

HTML = b"<!DOCTYPE html>\n<html><body>Quota exceeded</body></html>\n"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n"


class Mutation(NamedTuple):
    kind: str
    data: bytes | None
    """None: a folder stands in the file's place."""
    refused: bool


def mutations(path: Path, rng: np.random.Generator, count: int, mine: Path) -> Iterator[Mutation]:
    """`count` mutations of a file, drawn from all that fit its format. mine: a folder that nothing may be written to."""
    made = list(_all(path, rng, mine))
    for place in rng.permutation(len(made))[:count]:
        yield made[place]()


def _all(path: Path, rng: np.random.Generator, mine: Path) -> Iterator[Callable[[], Mutation]]:
    data = path.read_bytes()
    text = path.suffix in (".txt", ".json", ".jsonl", ".toml", ".bvh", ".csv")
    yield from (lambda each=each: each for each in _any_file(data, rng, text))
    formats = {".json": _json, ".npy": _npy, ".npz": _npz, ".safetensors": _safetensors, ".txt": _text, ".toml": _text,
               ".bvh": _bvh, ".jsonl": _text, ".csv": _text, ".pt": _torch}  # fmt: skip
    if path.suffix in formats:
        yield from formats[path.suffix](data, rng, mine)


def _any_file(data: bytes, rng: np.random.Generator, text: bool) -> list[Mutation]:
    flipped = bytearray(data)
    for place in rng.integers(0, max(1, len(data)), 8):
        if data:
            flipped[place] = rng.integers(0, 256)
    return [
        Mutation("empty", b"", not text), Mutation("a web page", HTML, not text),
        Mutation("a git-LFS pointer", POINTER, not text),
        Mutation("a folder", None, False), Mutation("cut short", data[: len(data) // 2], not text),
        Mutation("cut short", data[:-1], False), Mutation("bytes changed", bytes(flipped), False),
        Mutation("noise", rng.bytes(600), not text), Mutation("zeros", bytes(2000), not text),
        Mutation("UTF-16", data.decode("latin1").encode("utf-16"), not text) if text else Mutation("noise", rng.bytes(64), True),
        Mutation("cp1252", data[:30] + "é".encode("cp1252") + data[30:], False),
        Mutation("bytes added", data + rng.bytes(100), False),
    ]  # fmt: skip


# ------------------------------------------------------------------------------------------------------------------- JSON


def _json(data: bytes, rng: np.random.Generator, mine: Path) -> Iterator[Callable[[], Mutation]]:
    content = json.loads(data)
    deep: Any = 0
    for _ in range(40):
        deep = [deep]
    values = [None, "x", "", -1, 0, 10**9, 10**40, 1e308, 0.5, True, [], {}, [1], {"a": 1}, deep, f"{mine}/notes.txt",
              "../mine/notes.txt", "../../mine/x", "\u0000", "a\nb", "x" * 5000]  # fmt: skip
    for place in _places(content):
        for value in values:
            yield lambda place=place, value=value: Mutation("a field of JSON", _changed(content, place, value), False)
        yield lambda place=place: Mutation("a field left out", _without(content, place), False)
    more = {**content, "surprise": 1} if isinstance(content, dict) else [1]
    yield lambda: Mutation("an unknown field", json.dumps(more).encode(), False)
    yield lambda: Mutation("nested deep", b"[" * 50_000, True)
    yield lambda: Mutation("NaN in JSON", data.replace(b"0", b"NaN", 1), False)
    yield lambda: Mutation("a byte order mark", b"\xef\xbb\xbf" + data, False)


def _places(content: Any, place: tuple = ()) -> Iterator[tuple]:
    """Paths of all values, the first three of each list and the first six of each dict of many."""
    if place:
        yield place
    if isinstance(content, dict):
        for key in list(content)[: len(content) if len(place) == 0 else 6]:
            yield from _places(content[key], (*place, key))
    elif isinstance(content, list):
        for i in range(min(3, len(content))):
            yield from _places(content[i], (*place, i))


def _changed(content: Any, place: tuple, value: Any) -> bytes:
    if not place:
        return json.dumps(value).encode()
    copy = json.loads(json.dumps(content))
    target = copy
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    return json.dumps(copy).encode()


def _without(content: Any, place: tuple) -> bytes:
    copy = json.loads(json.dumps(content))
    target = copy
    for key in place[:-1]:
        target = target[key]
    del target[place[-1]]
    return json.dumps(copy).encode()


# ----------------------------------------------------------------------------------------------------------- numpy's files


def _arrays(array: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray, bool]]:
    """(class, array, whether it must be refused) of arrays that are not what they should be."""
    number = array.dtype.kind in "fiu" and array.size
    yield "an array of objects", np.array([{"a": 1}], object), True
    yield "an array of text", np.array(["walk", "run"]), True
    yield "an array of another kind", array.astype(np.complex64) if number else np.zeros(3, bool), True
    yield "a structured array", np.zeros(3, [("a", "<f4")]), True
    yield "another shape", np.zeros((2, 3, 4, 5), np.float32), True
    yield "another shape", np.float32(3.0).reshape(()), True
    yield "an empty array", np.zeros((0, *array.shape[1:]), np.float32), True
    yield "a huge side", np.zeros((1, 0, 70_000), np.float32), True
    if number and array.dtype.kind == "f":
        for value in (np.nan, np.inf, 1e30):
            changed = array.copy()
            with np.errstate(over="ignore"):
                changed.reshape(-1)[rng.integers(0, array.size)] = value
            yield "not finite" if value != 1e30 else "a huge number", changed, value != 1e30
        yield "all zero", np.zeros_like(array), False
        yield "all not a number", np.full_like(array, np.nan), True
        yield "a column more", np.concatenate([array, array[..., :1]], axis=-1) if array.ndim else array, bool(array.ndim > 1)
        yield "in double precision", array.astype(np.float64), False
        yield "in half precision", array.astype(np.float16), False
        yield "in another byte order", array.astype(array.dtype.newbyteorder()), False


def _npy_bytes(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def _claiming(data: bytes) -> bytes:
    """The same file with a header that claims a hundred million rows."""
    length = int.from_bytes(data[8:10], "little")
    fields = b"{'descr': '<f4', 'fortran_order': False, 'shape': (100000000, 22, 3), }"
    return data[:10] + fields.ljust(length - 1) + b"\n" + data[10 + length :]


def _npy(data: bytes, rng: np.random.Generator, mine: Path) -> Iterator[Callable[[], Mutation]]:
    array = np.load(io.BytesIO(data), allow_pickle=True)
    for kind, changed, refused in _arrays(array, rng):
        yield lambda kind=kind, changed=changed, refused=refused: Mutation(kind, _npy_bytes(changed), refused)
    if len(data) > 128 and data[6:8] == b"\x01\x00":
        yield lambda: Mutation("a header that claims too much", _claiming(data), True)
    if array.dtype == object:  # a results file: its pickle
        start = 10 + int.from_bytes(data[8:10], "little")
        for code in (b"cos\nsystem\n(S'true'\ntR.", b"cnumpy\ndtype\n(U\x02f8I0\nI1\ntR(I3\nU\x01|NNNI-1\nI-1\nI63\ntb."):
            yield lambda code=code: Mutation("a hostile pickle", data[:start] + code, True)


def _npz(data: bytes, rng: np.random.Generator, mine: Path) -> Iterator[Callable[[], Mutation]]:
    arrays = dict(np.load(io.BytesIO(data), allow_pickle=False))

    def packed(changed: dict[str, np.ndarray]) -> bytes:
        stream = io.BytesIO()
        np.savez(stream, **changed)
        return stream.getvalue()

    for name, array in arrays.items():
        yield lambda name=name: Mutation("an array left out", packed({k: v for k, v in arrays.items() if k != name}), False)
        for kind, changed, _ in _arrays(array, rng):
            yield lambda name=name, kind=kind, changed=changed: Mutation(
                f"{kind} in an archive", packed({**arrays, name: changed}), False)
    yield lambda: Mutation("an array too many", packed({**arrays, "surprise": np.zeros(3)}), False)

    def bomb() -> bytes:
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in arrays:
                archive.writestr(f"{name}.npy", _claiming(_npy_bytes(np.zeros(40_000, np.float32))) + bytes(30_000_000))
        return stream.getvalue()

    yield lambda: Mutation("an archive that unpacks to too much", bomb(), True)


def _safetensors(data: bytes, rng: np.random.Generator, mine: Path) -> Iterator[Callable[[], Mutation]]:
    import torch
    from safetensors.torch import load, save

    weights = load(data)
    names = list(weights)

    def with_(name: str, tensor: "torch.Tensor | None") -> bytes:
        changed = {**weights, name: tensor}
        return save({key: value.contiguous() for key, value in changed.items() if value is not None})

    floats = [name for name in names if weights[name].is_floating_point()]  # others may be what a mutation makes of them
    for name in (floats[i] for i in rng.permutation(len(floats))[:3]):
        one = weights[name].float()
        if not one.numel():
            continue
        holed = one.clone()
        holed.view(-1)[0] = float("nan")
        for kind, tensor in (("a tensor left out", None), ("weights not finite", holed), ("weights of whole numbers", one.long()),
                             ("weights of truth values", one.bool()), ("complex weights", one.to(torch.complex64)),
                             ("weights of another shape", torch.zeros(1, 2, 3))):  # fmt: skip
            yield lambda name=name, kind=kind, tensor=tensor: Mutation(kind, with_(name, tensor), True)
    yield lambda: Mutation("a tensor too many", with_("surprise", torch.zeros(1)), True)
    yield lambda: Mutation("a header that claims too much", (1 << 60).to_bytes(8, "little") + data[8:], True)


class _Command:
    """What runs a command where it is unpickled."""

    def __reduce__(self) -> tuple:
        return os.system, ("true",)


def _torch(data: bytes, rng: np.random.Generator, mine: Path) -> Iterator[Callable[[], Mutation]]:
    import torch

    content = torch.load(io.BytesIO(data), weights_only=True)

    def written(changed: Any) -> bytes:
        stream = io.BytesIO()
        torch.save(changed, stream)
        return stream.getvalue()

    yield lambda: Mutation("a hostile pickle", written({"model": _Command()}), True)
    for kind, other in (("a list in place of weights", [1]), ("weights without a name", {1: torch.zeros(1)}),
                        ("no weights at all", {}), ("a number in place of weights", 3.0)):  # fmt: skip
        yield lambda kind=kind, other=other: Mutation(kind, written(other), True)
    weights = {name: value for name, value in content.items() if isinstance(value, torch.Tensor) and value.is_floating_point()
               and "pos_encoder" not in name}  # fmt: skip
    for name in (list(weights)[i] for i in rng.permutation(len(weights))[:3]):
        holed = weights[name].clone()
        holed.view(-1)[0] = float("nan")
        for kind, tensor in (("weights not finite", holed), ("weights of another shape", torch.zeros(1, 2, 3)),
                             ("complex weights", weights[name].to(torch.complex64))):  # fmt: skip
            yield lambda name=name, kind=kind, tensor=tensor: Mutation(kind, written({**content, name: tensor}), True)
        yield lambda name=name: Mutation(
            "a tensor left out", written({key: value for key, value in content.items() if key != name}), True)


# ------------------------------------------------------------------------------------------------------------------- text


def _text(data: bytes, rng: np.random.Generator, mine: Path) -> Iterator[Callable[[], Mutation]]:
    lines = data.split(b"\n")
    for insert in (b"\0", b"a#b#c#d", b"#", b"#" + b"9" * 400, b"x" * 300_000, b"../mine/notes", f"{mine}/notes".encode(),
                   "\u2028 \u202e 走る".encode(), b"[[[", b"= = =", b"a = " + b"[" * 3000):  # fmt: skip
        place = int(rng.integers(0, len(lines)))
        yield lambda insert=insert, place=place: Mutation(
            "a line of text", b"\n".join([*lines[:place], insert, *lines[place:]]), False)
    yield lambda: Mutation("lines doubled", data + data, False)
    yield lambda: Mutation("other line ends", data.replace(b"\n", b"\r\n"), False)


def _bvh(data: bytes, rng: np.random.Generator, mine: Path) -> Iterator[Callable[[], Mutation]]:
    head, _, body = data.partition(b"MOTION")
    rows = body.split(b"\n")
    harmless = ("spaces", "huge offsets")  # whose channels give the positions, as in Bandai-Namco's files
    changes = {
        "spaces": data.replace(b"Frame Time:", b"Frame Time:" + b" " * 50_000),
        "a hierarchy in one line": head.replace(b"\n", b" ") * 40 + b"\nMOTION" + body,
        "joints by the thousand": head.replace(b"ROOT", b"ROOT a { OFFSET 0 0 0 CHANNELS 1 Xrotation } " * 20_000 + b"ROOT")
        + b"MOTION" + body,
        "a row cut short": b"MOTION".join([head, b"\n".join([*rows[:-3], b" ".join(rows[-3].split()[:-2]), b""])]),
        "no frames": b"MOTION".join([head, b"\n".join(rows[:3])]),
        "not a number": data[: -len(rows[-2]) - 1] + rows[-2].replace(b"0", b"nan", 1) + b"\n",
        "huge offsets": data.replace(b"OFFSET 0 0 0", b"OFFSET 1e300 1e300 1e300"),
        "a frame time of nothing": data.replace(b"Frame Time:\t", b"Frame Time:\t0.0 "),
        "a frame count of billions": data.replace(b"Frames:\t", b"Frames:\t99999999999"),
        "no hierarchy": b"MOTION" + body,
    }
    for kind, changed in changes.items():
        yield lambda kind=kind, changed=changed: Mutation(f"BVH: {kind}", changed, kind not in harmless)
