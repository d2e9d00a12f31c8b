"""What the readers of published checkpoints share: renaming parameters, and files of tensors, read without running code."""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from model.model import as_state, load_checked, read_torch
from protos.reading import FileError, refuse_other_formats

MOST_STATISTICS = 100_000  # numbers of a mean or std

# Our name of a part of a torch.nn.Transformer layer -> torch's.
LAYER_NAMES = (
    (r"self_attention\.qkv\.", "self_attn.in_proj_"),
    (r"self_attention\.out\.", "self_attn.out_proj."),
    (r"cross_attention\.qkv\.", "multihead_attn.in_proj_"),
    (r"cross_attention\.out\.", "multihead_attn.out_proj."),
    (r"linear", "linear"),
)
NORMS = {
    "trans_enc": {"norm_self": "norm1", "norm_ff": "norm2"},
    "trans_dec": {"norm_self": "norm1", "norm_cross": "norm2", "norm_ff": "norm3"},
}
STACK = {"trans_enc": "seqTransEncoder", "trans_dec": "seqTransDecoder"}


def torch_layer_name(name: str, arch: str) -> str:
    """The name that `layers.<i>.<rest>` of ours has in a torch.nn.TransformerEncoder or Decoder, by `arch`."""
    _, index, rest = name.split(".", 2)
    stack = f"{STACK[arch]}.layers.{index}."
    norm, _, kind = rest.partition(".")
    if norm in NORMS[arch]:
        return f"{stack}{NORMS[arch][norm]}.{kind}"
    return stack + first_match(rest, LAYER_NAMES)


def first_match(name: str, table: Iterable[tuple[str, str]]) -> str:
    """The name with its beginning replaced by the first pattern of the table (ours, theirs) that matches. KeyError for none."""
    for ours, theirs in table:
        if re.match(ours, name):
            return re.sub(ours, theirs, name, count=1)
    raise KeyError(f"no published name for {name}")


def rename(published: dict[str, Tensor], ours: dict[str, Tensor], to_published: Callable[[str], str],
           not_loaded: Iterable[str], where: str) -> dict[str, Tensor]:
    """A published state dict under our names. FileError names what is missing or unexpected."""
    pairs = {name: to_published(name) for name in ours}
    given = {key for key in published if not any(re.search(pattern, key) for pattern in not_loaded)}
    missing, unexpected = sorted(set(pairs.values()) - given), sorted(given - set(pairs.values()))
    if missing or unexpected:
        lists = [f"{len(keys)} {kind} ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})"
                 for kind, keys in (("missing", missing), ("unexpected", unexpected)) if keys]
        raise FileError(f"{where} does not hold the weights its configuration asks for: {'; '.join(lists)}")
    return {name: published[theirs] for name, theirs in pairs.items()}


def load_renamed(networks: nn.Module, published: dict[str, Tensor], to_published: Callable[[str], str], where: str,
                 not_loaded: Iterable[str] = ()) -> None:
    """Published weights into networks of ours, checked; FileError as `rename`, or names the first that does not fit."""
    load_checked(networks, rename(published, networks.state_dict(), to_published, not_loaded, where), where)


def read_training_checkpoint(path: Path) -> dict[str, Tensor]:
    """`state_dict` of a Lightning checkpoint. Of whatever else it pickled, empty shells are made and no code is run."""
    content = _load(path, shells=True)
    if not isinstance(content, dict) or "state_dict" not in content:
        raise FileError(f"{path} holds no state_dict: expected a training checkpoint (.ckpt)")
    return as_state(content["state_dict"], path)


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """A flat state dict."""
    return as_state(_load(path), path)


def read_tensor(path: Path) -> np.ndarray:
    """One float32 array."""
    content = _load(path)
    if not isinstance(content, Tensor) or content.layout != torch.strided or content.numel() > MOST_STATISTICS:
        raise FileError(f"{path} holds no tensor of a mean or std")
    return content.float().numpy()


def _load(path: Path, shells: bool = False) -> Any:
    if not path.is_file():
        raise FileError(f"{path} is absent: the run is incomplete")
    if not shells:
        return read_torch(path)
    refuse_other_formats(path)
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:
        names = []
    with torch.serialization.safe_globals([(_shell(name), name) for name in names]):
        return read_torch(path)


def _shell(name: str) -> Callable:
    """What stands for a pickled class or function of that name: takes whatever a file gives it, and does nothing."""
    if name == "collections.defaultdict":  # the reader fills it with items, which it grants true dictionaries only
        return lambda *_: OrderedDict()

    class Shell:
        def __new__(cls, *_: Any, **__: Any) -> "Shell":
            return super().__new__(cls)

        def __init__(self, *_: Any, **__: Any):
            pass

        def __setstate__(self, _: Any) -> None:
            pass

    return Shell
