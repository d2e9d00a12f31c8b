"""Weights from files: tensors alone, no pickled code, with names, shapes, kinds and values checked before they are used."""

import struct
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from protos.reading import FileError, first_line, refuse_other_formats, size

if TYPE_CHECKING:
    from torch import Tensor

MOST_PACKED = 16 * 2**20  # bytes by which packed code may grow; CLIP's published files hold some hundred kB of it

def read_safetensors(path: str | Path) -> "dict[str, Tensor]":
    """Tensors of a safetensors file by name, as stored. FileError where it is absent, damaged or another kind of file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    _require_file(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise FileError(f"{path}: damaged or not a safetensors file ({first_line(error)})") from None


def read_torch(path: str | Path) -> Any:
    """What a file of torch.save holds, if that is tensors and plain values; classes and functions in it are refused, not run."""
    import torch

    _require_file(path)
    _refuse_packed(path)
    try:
        with warnings.catch_warnings():  # of odd pickle protocols, two lines: what is wrong is said below
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a torn archive raises almost anything: RuntimeError, OSError, EOFError, KeyError
        if "weights_only" in str(error) or "Unsupported" in str(error) or "Unpickling" in type(error).__name__:
            raise FileError(f"{path}: holds more than tensors and plain values, or is damaged ({first_line(error)})") from None
        raise FileError(f"{path}: damaged or not a file of torch.save ({first_line(error)})") from None


def check_weights(found: "Mapping[str, Tensor]", expected: "Mapping[str, Tensor]", name: str) -> "dict[str, Tensor]":
    """`found` in the kinds of `expected` (float16 becomes float32), if its names, shapes, kinds and values are right.

    FileError names the first tensor that is absent, unexpected, of another shape, of another kind (whole numbers for floating
    point, complex) or not finite.
    """
    for key in found:
        if key not in expected:
            raise FileError(f"{name}: unexpected tensor {key}; these are other networks than its configuration describes")
    weights = {}
    for key, own in expected.items():
        tensor = found.get(key)
        if tensor is None:
            raise FileError(f"{name}: tensor {key} is absent; these are other networks than its configuration describes")
        if problem := _problem(tensor, own):
            raise FileError(f"{name}: tensor {key} {problem}")
        weights[key] = tensor.to(own.dtype)
    return weights


def _require_file(path: str | Path) -> None:
    if not Path(path).is_file():
        raise FileError(f"{path} is absent: the checkpoint is incomplete")
    refuse_other_formats(path)


def _refuse_packed(path: str | Path) -> None:
    """FileError for an archive that unpacks to far more than it holds: torch packs no tensor, only the code of TorchScript."""
    try:
        with zipfile.ZipFile(path) as archive:
            total = sum(member.file_size for member in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, struct.error):
        return  # an older form, or damaged: reading says so
    if total > Path(path).stat().st_size + MOST_PACKED:
        raise FileError(f"{path}: unpacks to {size(total)}, far more than the file itself: torch does not write such files")


def _problem(tensor: "Tensor", own: "Tensor") -> str | None:
    """What is wrong with a tensor that is to take the place of `own`."""
    if tensor.shape != own.shape:
        return f"has shape {tuple(tensor.shape)}, its configuration says {tuple(own.shape)}"
    if tensor.layout != own.layout or tensor.is_quantized or tensor.is_meta:
        return "is sparse, quantised or without values, expected plain numbers"
    if tensor.dtype != own.dtype and not (tensor.is_floating_point() and own.is_floating_point()):
        return f"holds {tensor.dtype}, expected {own.dtype}".replace("torch.", "")
    if tensor.is_floating_point() and not tensor.isfinite().all():
        return "holds NaN or infinite values: damaged weights"
    return None
