"""Where weights meet networks: checked against what the configuration describes before anything large is made."""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from model.registry import MOST_SETTINGS
from protos.names import shown
from protos.reading import FileError, convert, read_json
from protos.weights import check_weights

TABLES = 100_000_000  # numbers that networks may hold beside their weights: tables of positions, a second set of buffers
_MAKERS = {torch.empty, torch.zeros, torch.ones, torch.randn, torch.rand}


class CheckpointError(FileError):
    """A checkpoint is absent, unreadable, or not of the expected form."""


@contextmanager
def checkpoint_errors() -> Iterator[None]:
    """What is wrong with a file of a checkpoint, as a CheckpointError."""
    try:
        yield
    except FileError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(str(error)) from None


def convert_settings(content: Any, config_type: type, where: str) -> Any:
    """The settings in a config.json as its system's dataclass. FileError names what is unknown, mistyped or out of bounds."""
    known = {field.name for field in fields(config_type)}
    if unknown := sorted(shown(name) for name in content if name not in known) if isinstance(content, dict) else []:
        raise CheckpointError(f"{where} has unknown settings ({', '.join(unknown[:4])}): a newer version wrote it")
    config = convert(content, config_type, where)
    config.features.check(where)
    return config


class _Budget(TorchFunctionMode):
    """Refuses the tensor with which the networks made meanwhile would outgrow the weights that they are made for."""

    def __init__(self, state: Mapping[str, Tensor], where: str):
        super().__init__()
        self.held, self.where = sum(value.numel() for value in state.values()), where
        self.left = 2 * self.held + TABLES

    def __torch_function__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if function in _MAKERS:
            size = args[0] if args and isinstance(args[0], (tuple, list)) else args
            self.left -= math.prod(size)
            if self.left < 0:
                raise CheckpointError(f"{self.where}: its configuration describes networks far larger than the {self.held:,} "
                                      "weights in this file: one of the two is damaged or another model's")
        return function(*args, **(kwargs or {}))


def made_for(state: Mapping[str, Tensor], where: str) -> _Budget:
    """`with made_for(state, file): networks = build(config)`: CheckpointError as soon as they outgrow the file's weights."""
    return _Budget(state, where)


def as_state(content: Any, where: str | Path) -> dict[str, Tensor]:
    """A flat state dict, if `content` is one. CheckpointError otherwise."""
    if not isinstance(content, Mapping) or not content or not all(
            isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()):
        raise CheckpointError(f"{where} holds no state dict: expected parameter names and tensors")
    return dict(content)


def load_checked(networks: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """`networks.load_state_dict` of weights that were checked by name, shape, kind and value; CheckpointError names the first
    that is wrong.
    """
    with checkpoint_errors():
        networks.load_state_dict(check_weights(state, networks.state_dict(), where))


def read_settings(path: Path) -> dict[str, Any]:
    """The JSON object of a config.json or args.json."""
    if not path.is_file():
        raise CheckpointError(f"{path} is absent")
    with checkpoint_errors():
        content = read_json(path, most=MOST_SETTINGS)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds no settings: expected a JSON object")
    return content
