"""What a user holds of a system: its networks, with the settings, features and statistics that they were trained with; and how
weights get into networks: read as plain tensors, whoever wrote the file, and checked against what the configuration describes
before anything large is made.
"""

import copy
import math
import struct
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from data_loaders.corpus import Batch
from data_loaders.features import Features, FeaturesMismatch, Statistics
from model.capabilities import AS_MADE, Cleanup, Decoding, Request
from model.registry import MOST_SETTINGS
from model.text_encoders import EncodesTexts, TextFeatures
from protos.files import shown
from protos.reading import FileError, convert, first_line, read_json, refuse_other_formats, size

Generators = torch.Generator | Sequence[torch.Generator]  # one for all samples, or one each


@dataclass(frozen=True)
class Draws:
    """The randomness of a training step: `samples`, a generator per sample, so that what a sample draws depends neither on its
    neighbours nor on the number of processes, and `step`, one for what the whole batch shares. `progress`: the share of the
    training that is done, in [0, 1); 1 where a model is only judged. `first`: the place of the first sample in the batch of all
    processes.
    """

    samples: Sequence[torch.Generator]
    step: torch.Generator
    progress: float = 1.0
    first: int = 0


class Learnt(NamedTuple):
    """What a training step found: the weighted terms of a loss; sums over its samples, which are added up over all processes and
    passes and given to `Model.update`; figures that are logged beside the terms.
    """

    terms: dict[str, Tensor]
    sums: dict[str, Tensor]
    figures: dict[str, Tensor] = {}


def require_only(record: Request | Decoding, taken: Sequence[str], why: str) -> None:
    """ValueError, which says `why`, where a record holds a setting that is not its default and not among `taken`."""
    always = ("text", "frames", "seed", "batch_size")
    for field in fields(record):
        if field.name not in (*always, *taken) and getattr(record, field.name) is not field.default:
            raise ValueError(f"{field.name}: {why}")


class Model:
    """Owns `networks`, which are trained, averaged, moved and saved, and is itself no network.

    `config` is the dataclass of its system, `parts` are models of other systems that it stands on and does not train. Systems
    add what they can do: see `model/capabilities.py`. Features that enter and leave are in their units, (..., T, D).
    `cleanup`: what the checkpoint says is done to the joints of what it makes, unless a user wants otherwise.
    """

    cleanup: Cleanup = AS_MADE

    def __init__(self, config: Any, statistics: Statistics | None, networks: Mapping[str, nn.Module], *,
                 frozen: Sequence[str] = (), parts: Mapping[str, "Model"] | None = None):
        """frozen: names of networks that stay in eval mode, untrained. FeaturesMismatch where the statistics are of others."""
        self.config, self.statistics = config, statistics
        self.networks = nn.ModuleDict(networks)
        self.frozen, self.parts = tuple(frozen), dict(parts or {})
        for module in (*(self.networks[name] for name in frozen), *(part.networks for part in self.parts.values())):
            module.requires_grad_(False).eval()
        self.mean, self.std = (None, None) if statistics is None else self._checked(statistics)

    @property
    def features(self) -> Features:
        """What its motions are made of."""
        return self.config.features

    @property
    def device(self) -> torch.device:
        """Where its networks are."""
        return next(self.networks.parameters()).device

    @property
    def num_parameters(self) -> int:
        """Those of its parts too."""
        own = sum(p.numel() for p in self.networks.parameters())
        return own + sum(part.num_parameters for part in self.parts.values())

    def to(self, device: torch.device | str) -> Self:
        """Moves its networks and those of its parts; returns the model itself."""
        for module in (self.networks, *(part.networks for part in self.parts.values())):
            module.to(device)
        return self

    def train(self, mode: bool = True) -> Self:
        """Networks in training mode, but for the frozen ones."""
        self.networks.train(mode)
        for name in self.frozen:
            self.networks[name].eval()
        return self

    def eval(self) -> Self:
        """Networks in evaluation mode."""
        return self.train(False)

    def copied(self) -> Self:
        """A model with networks of its own, which are not trained: for a moving average."""
        other = copy.copy(self)
        other.networks = copy.deepcopy(self.networks).requires_grad_(False)
        return other.eval()

    def installed(self) -> set[str]:
        """Names of those of its networks' weights that come with the installation, and are not stored: none."""
        return set()

    def loss(self, batch: Batch, draws: Draws) -> dict[str, Tensor] | Learnt:
        """Terms, scalar or (B,), of a training step on features in their units; "loss" is the total, or else their sum. `Learnt`
        of a model that learns otherwise than by gradients too.
        """
        raise ValueError(f"{type(self).__name__} is not trained by itself")

    def update(self, sums: Mapping[str, Tensor], generator: torch.Generator) -> None:
        """What the sums of a training step change, without a gradient; generator: the same on every process."""
        raise ValueError(f"{type(self).__name__} has nothing to update")

    def completed(self, made: Tensor) -> Tensor:
        """Features (T, D) of full width of a motion that it generated: the same, unless it makes only some of the columns."""
        return made

    def kept_columns(self, keep: Tensor) -> Tensor:
        """Of what stays (T, D) or (T, 1) of a motion that is edited, the columns that it makes: all."""
        return keep

    def normalise(self, features: Tensor) -> Tensor:
        """(..., D) in units of the model's own mean and std; as they are where it has none."""
        if self.mean is None:
            return features
        return (features - self.mean.to(features.device)) / self.std.to(features.device)

    def denormalise(self, motion: Tensor) -> Tensor:
        """The inverse of `normalise`."""
        return motion if self.mean is None else motion * self.std.to(motion.device) + self.mean.to(motion.device)

    def masked(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Normalised motion (B, T, D), zero beyond each end, and mask (B, T) of a batch, on the model's device."""
        motion, mask = batch.motion.to(self.device), batch.mask.to(self.device)
        return self.normalise(motion) * mask[..., None], mask

    def _checked(self, statistics: Statistics) -> tuple[Tensor, Tensor]:
        self.features.require(statistics.features, "the model", "its mean and std")
        width = self.features.width * self.features.persons
        if statistics.mean.shape != (width,):
            raise FeaturesMismatch(f"mean and std of {statistics.mean.shape[-1]} features, this model reads {width} "
                                   f"({self.features.kind}, {self.features.skeleton}): pass a dataset of that kind")
        return tuple(torch.tensor(array, dtype=torch.float32) for array in (statistics.mean, statistics.std))


class ReadsTexts(Model):
    """Is told texts by a frozen encoder, which is opened when a text is first read; `text_encoder` may be given instead."""

    text_encoder: EncodesTexts | None

    def reader(self) -> EncodesTexts:
        """What reads texts. FileError where it is not on this machine."""
        raise NotImplementedError

    def encode_text(self, texts: Sequence[str]) -> TextFeatures | None:
        """Features of the texts on the model's device; None for a model that reads none."""
        if not self.config.reads_text:
            return None
        return self.opened_encoder().encode(list(texts)).to(self.device)

    def opened_encoder(self) -> EncodesTexts:
        """What reads its texts. FileError where it is not on this machine."""
        if self.text_encoder is None:
            self.text_encoder = self.reader()
        return self.text_encoder


# ---------------------------------------------------------------------------------------------------------------------- weights

TABLES = 100_000_000  # numbers that networks may hold beside their weights: tables of positions, a second set of buffers
_MAKERS = {torch.empty, torch.zeros, torch.ones, torch.randn, torch.rand}
MOST_PACKED = 16 * 2**20  # bytes by which packed code may grow; CLIP's published files hold some hundred kB of it


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
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


def check_weights(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
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


def _problem(tensor: Tensor, own: Tensor) -> str | None:
    """What is wrong with a tensor that is to take the place of `own`."""
    if tensor.shape != own.shape:
        return f"has shape {tuple(tensor.shape)}, expected {tuple(own.shape)}"
    if tensor.layout != own.layout or tensor.is_quantized or tensor.is_meta:
        return "is sparse, quantised or without values, expected plain numbers"
    if tensor.dtype != own.dtype and not (tensor.is_floating_point() and own.is_floating_point()):
        return f"holds {tensor.dtype}, expected {own.dtype}".replace("torch.", "")
    if tensor.is_floating_point() and not tensor.isfinite().all():
        return "holds NaN or infinite values: damaged weights"
    return None



def convert_settings(content: Any, config_type: type, where: str) -> Any:
    """The settings in a config.json as its system's dataclass. FileError names what is unknown, mistyped or out of bounds."""
    known = {field.name for field in fields(config_type)}
    if unknown := sorted(shown(name) for name in content if name not in known) if isinstance(content, dict) else []:
        raise FileError(f"{where} has unknown settings ({', '.join(unknown[:4])}): a newer version wrote it")
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
                raise FileError(f"{self.where}: its configuration describes networks far larger than the {self.held:,} "
                                "weights in this file: one of the two is damaged or another model's")
        return function(*args, **(kwargs or {}))


def made_for(state: Mapping[str, Tensor], where: str) -> _Budget:
    """`with made_for(state, file): networks = build(config)`: FileError as soon as they outgrow the file's weights."""
    return _Budget(state, where)


def as_state(content: Any, where: str | Path) -> dict[str, Tensor]:
    """A flat state dict, if `content` is one. FileError otherwise."""
    if not isinstance(content, Mapping) or not content or not all(
            isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()):
        raise FileError(f"{where} holds no state dict: expected parameter names and tensors")
    return dict(content)


def load_checked(networks: nn.Module, state: Mapping[str, Tensor], where: str) -> None:
    """`networks.load_state_dict` of weights that were checked by name, shape, kind and value; FileError names the first
    that is wrong.
    """
    networks.load_state_dict(check_weights(state, networks.state_dict(), where))


def read_settings(path: Path) -> dict[str, Any]:
    """The JSON object of a config.json or args.json."""
    if not path.is_file():
        raise FileError(f"{path} is absent")
    content = read_json(path, most=MOST_SETTINGS)
    if not isinstance(content, dict):
        raise FileError(f"{path} holds no settings: expected a JSON object")
    return content
