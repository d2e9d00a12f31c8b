"""Reads what a case of cases.json refers to: arrays, JSON values, text, weights.

A reference is `file`, `file:key` (npz, safetensors), `file:/json/pointer`, `file:path/of/keys` (JSON),
`file.npy:field` of a pickled dict, `file.safetensors:prefix/` (prefix stripped), or a folder.
"""

import json
import pickle
import zlib
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

SAFE_PICKLE_NAMES = {
    ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"),
    *((f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *((f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")),
    *(("builtins", name) for name in ("complex", "set", "frozenset", "bytearray", "slice", "range")),
}


class MissingReference(ValueError):
    """A case names a file that this folder does not hold."""


class _NumpyUnpickler(pickle.Unpickler):
    """Builds numpy arrays and plain Python values, and refuses every other class or function."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in SAFE_PICKLE_NAMES:
            raise pickle.UnpicklingError(f"refused to load {module}.{name}: only numpy arrays and plain values")
        return super().find_class(module, name)


def read_pickled_npy(path: Path) -> Any:
    """The object saved by np.save(path, obj), by an unpickler that knows numpy and builtins only."""
    with open(path, "rb") as file:
        shape = _npy_shape(file)
        array = _NumpyUnpickler(file).load()
    return array.item() if shape == () or array.size == 1 else array


def _npy_shape(file: BinaryIO) -> tuple[int, ...]:
    version = np.lib.format.read_magic(file)
    read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read_header(file)[0]


def json_value(document: Any, key: str) -> Any:
    """`/a/0/b` is a JSON pointer; `a/b` walks keys that may themselves hold a slash; empty is the whole document."""
    if key in ("", "/"):
        return document
    if key.startswith("/"):
        for part in key[1:].split("/"):
            part = part.replace("~1", "/").replace("~0", "~")
            document = document[int(part)] if isinstance(document, list) else document[part]
        return document
    if isinstance(document, dict) and key in document:
        return document[key]
    parts = key.split("/")
    for length in range(len(parts), 0, -1):
        head, rest = "/".join(parts[:length]), "/".join(parts[length:])
        if isinstance(document, list) and length == 1:
            return json_value(document[int(head)], rest)
        if isinstance(document, dict) and head in document:
            return json_value(document[head], rest)
    raise KeyError(key)


def path_of(folder: Path, reference: str) -> Path:
    """The file or folder a reference points into; MissingReference where it is not there."""
    path = folder / reference.partition(":")[0]
    if not path.exists():
        raise MissingReference(f"{path.name} is not in {folder}")
    return path


def load(folder: Path, reference: str) -> Any:
    """What the reference names: ndarray, dict of them, JSON value, list of lines, text, or a folder's Path."""
    path = path_of(folder, reference)
    key = reference.partition(":")[2] if ":" in reference else None
    if path.is_dir():
        return path
    try:
        return _READERS.get(path.suffix, _read_text)(path, key)
    except KeyError:
        raise MissingReference(f"{path.name} holds no {key!r}") from None


def load_weights(folder: Path, reference: Any) -> Any:
    """Tensors by name, the prefix stripped; per model where the case names several files; a Path for a folder."""
    if reference is None:
        return None
    if isinstance(reference, dict):
        return {model: load_weights(folder, file) for model, file in reference.items()}
    path = path_of(folder, reference)
    if path.suffix == ".json" and "rules" in (recipe := _read_json(path, None)):
        return _weights_by_recipe(folder, recipe, reference.partition(":")[2])
    if path.suffix != ".safetensors":
        return load(folder, reference)
    from safetensors.torch import load_file

    prefix = reference.partition(":")[2]
    tensors = load_file(path)
    chosen = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    if not chosen:
        raise MissingReference(f"{reference} names no tensor")
    return chosen


def _weights_by_recipe(folder: Path, recipe: dict, name: str) -> dict:
    """Random tensors anyone can draw again: the seed is the parameter's name, the form the first rule that fits."""
    import torch

    chosen = recipe["sets"][name]
    shapes = chosen["shapes"] if isinstance(chosen["shapes"], dict) else load(folder, chosen["shapes"])
    tensors = {}
    prefix = chosen.get("prefix", "")
    for key, shape in shapes.items():
        if not key.startswith(prefix) or ("exclude_prefix" in chosen and key.startswith(chosen["exclude_prefix"])):
            continue
        rule = next(rule for rule in recipe["rules"] if _rule_fits(rule["if"], key, shape))
        if rule["action"] == "skip":
            continue
        if rule["action"] == "constant":
            values = np.full(shape, rule["value"])
        else:
            seed = zlib.crc32((recipe["salt"] + key).encode())
            scale = shape[-1] ** -0.5 if rule["scale"] == "1/sqrt(last_dim)" else rule["scale"]
            values = np.random.RandomState(seed).standard_normal(shape) * scale + rule["offset"]
        tensors[key.removeprefix(prefix)] = torch.from_numpy(np.asarray(values, dtype=np.float32))
    return tensors


def _rule_fits(condition: dict, key: str, shape: list[int]) -> bool:
    return key.endswith(condition.get("key_suffix", "")) and len(shape) >= condition.get("min_ndim", 0)


@lru_cache(maxsize=16)
def _open_npz(path: Path) -> Any:
    return np.load(path, allow_pickle=False)


def _read_npz(path: Path, key: str | None) -> Any:
    archive = _open_npz(path)
    return {name: archive[name] for name in archive.files} if key is None else archive[key]


def _read_npy(path: Path, key: str | None) -> Any:
    if key is None:
        return np.load(path, allow_pickle=False)
    document = read_pickled_npy(path)
    return document[key] if key else document


def _read_json(path: Path, key: str | None) -> Any:
    document = json.loads(path.read_text(encoding="utf-8"))
    if key and isinstance(document, dict) and key in document.get("sets", {}) and "rules" in document:
        made = _weights_by_recipe(path.parent, document, key)
        return next(iter(made.values())).numpy() if set(made) == {key} else {n: t.numpy() for n, t in made.items()}
    return json_value(document, key or "")


def _read_safetensors(path: Path, key: str | None) -> Any:
    tensors = {name: tensor.float().numpy() if tensor.is_floating_point() else tensor.numpy()
               for name, tensor in load_weights(path.parent, path.name).items()}
    if not key:
        return tensors
    return tensors[key] if key in tensors else {n.removeprefix(key): t for n, t in tensors.items() if n.startswith(key)}


def _read_lines(path: Path, key: str | None) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()


def _read_text(path: Path, key: str | None) -> str:
    return path.read_text(encoding="utf-8")


_READERS = {
    ".npz": _read_npz, ".npy": _read_npy, ".json": _read_json, ".safetensors": _read_safetensors, ".txt": _read_lines
}
