"""Motion tokenizers as LaMP, T2M-GPT and MoMask publish them: `.tar` files of torch, their names, what weights tell of sizes.

Dilations and the activation are those of all published files. LaMP's and T2M-GPT's have one codebook, MoMask's several. With a
file belong the mean and std of its training (`meta/mean.npy`, `meta/std.npy`), without which its codes mean nothing.
"""

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from data_loaders.feature_statistics import with_feature_bias
from data_loaders.features import HUMANML3D, Features, Statistics
from model.model import as_state, load_checked, made_for, read_torch
from model.official.weights import first_match, rename
from model.registry import token_file
from model.vqvae import VQVAE
from model.vqvae_config import RESIDUAL, VQVAEConfig
from protos.reading import FileError, read_array

log = logging.getLogger(__name__)
KIT = Features("kit", 12.5, "published")
STATES = ("vq_model", "net")  # what the state dict is called: LaMP and MoMask, T2M-GPT
PREFIX = "vqvae."  # of all names of files with one codebook


def tokenizer_name(name: str, num_levels: int) -> str:
    """The published name, without its prefix, of a parameter of our `Tokenizer` that is no codebook."""
    part, _, rest = name.partition(".")
    level = {"encoder": (r"levels\.(\d+)\.conv\.", r"\1.0."), "decoder": (r"levels\.(\d+)\.conv\.", r"\1.2.")}[part]
    blocks = {"encoder": r"\1.1.model.\2.", "decoder": r"\1.0.model.\2."}[part]
    renamed = first_match(rest, (
        (r"first\.", "0."), (r"smooth\.", f"{2 + num_levels}."),
        (r"last\.", f"{2 + num_levels}." if part == "encoder" else f"{4 + num_levels}."),
        level, (r"levels\.(\d+)\.blocks\.(\d+)\.", blocks),
    ))  # fmt: skip
    if rest.startswith("levels."):
        number, _, rest = renamed.partition(".")
        renamed = f"{int(number) + 2}.{rest}"
    return f"{part}.model.{renamed}"


def codebook_names(num_quantizers: int, one: bool) -> list[str]:
    """Published names of the codebooks; one: of a file that has a single one."""
    return ["quantizer.codebook"] if one else [f"quantizer.layers.{layer}.codebook" for layer in range(num_quantizers)]


def config_from_state(state: dict[str, Tensor], where: str) -> VQVAEConfig:
    """Our configuration of published weights, under names without prefix. FileError names what is absent."""
    try:
        width, num_features, _ = state["encoder.model.0.weight"].shape
        books = [name for name in state if name.startswith("quantizer.") and name.endswith(".codebook")]
        num_codes, code_dim = state[books[0]].shape
    except (KeyError, IndexError, ValueError) as error:
        raise FileError(f"{where}: no tokenizer of motion, or incomplete ({error} is absent)") from None
    levels = {name.split(".")[2] for name in state if re.match(r"encoder\.model\.\d+\.0\.weight", name)}
    blocks = {name.split(".")[5] for name in state if name.startswith("encoder.model.2.1.model.")}
    residual = RESIDUAL if "quantizer.codebook" not in state else {}
    try:
        return VQVAEConfig(
            num_codes=num_codes, code_dim=code_dim, width=width, num_levels=len(levels), depth=len(blocks),
            features=features_of(num_features, where), **{**residual, "num_quantizers": len(books)},
        )  # fmt: skip
    except ValueError as error:
        raise FileError(f"{where}: weights of sizes that no tokenizer has ({error})") from None


def features_of(width: int, where: str) -> Features:
    """HumanML3D's or KIT's."""
    for features in (HUMANML3D, KIT):
        if features.width == width:
            return features
    raise FileError(f"{where}: reads {width} features, expected {HUMANML3D.width} (HumanML3D) or {KIT.width} (KIT)")


def of_published(state: dict[str, Tensor], config: VQVAEConfig, model: VQVAE, where: str) -> None:
    """Puts published weights, under names without prefix, into a model's network. FileError where they do not fit."""
    ours = model.network.state_dict()
    books = codebook_names(config.num_quantizers, "quantizer.codebook" in state)
    plain = {name: value for name, value in ours.items() if not name.startswith("codebooks.")}
    without = {name: value for name, value in state.items() if name not in books}
    found = rename(without, plain, lambda name: tokenizer_name(name, config.num_levels), (), where)
    if missing := [name for name in books if name not in state]:
        raise FileError(f"{where}: tensor {missing[0]} is absent: incomplete")
    codes = torch.stack([state[name].float() for name in books])
    # Files leave out the averages that codes are: as if each had been met once
    counts, started = torch.ones(codes.shape[:2]), torch.ones(len(codes), dtype=torch.bool)
    begun = {"codes": codes, "sums": codes, "counts": counts, "started": started}
    load_checked(model.network, found | {f"codebooks.{name}": value for name, value in begun.items()}, where)


def read_tokenizer(path: Path) -> tuple[dict[str, Tensor], Path]:
    """State dict without prefix, and the file it came from. FileError says what is wrong."""
    file = token_file(path, "tokenizer")
    if file is None:
        raise FileError(f"{path} holds no tokenizer of LaMP, T2M-GPT or MoMask: expected a .tar or .pth with its weights")
    content = read_torch(file)
    state = state_of(content, STATES, file)
    return {key.removeprefix(PREFIX): value for key, value in state.items()}, file


def state_of(content: Any, names: Sequence[str], file: Path) -> dict[str, Tensor]:
    """The state dict that a file holds under the first of the names that it has. FileError where it has none of them."""
    name = next((each for each in names if isinstance(content, dict) and each in content), None)
    if name is None:
        raise FileError(f"{file} holds none of {', '.join(names)}")
    return as_state(content[name], f"{file}, {name},")


def load_vqvae(path: Path) -> VQVAE:
    """The tokenizer that a published file, or a folder of one, holds. FileError says what is wrong or absent."""
    state, file = read_tokenizer(path)
    config = config_from_state(state, str(file))
    with made_for(state, str(file)):
        model = VQVAE(config, statistics_beside(file, config.features))
    of_published(state, config, model, str(file))
    log.info("%s: %d x %d codes, a token of %d frames", file, config.num_quantizers, config.num_codes, config.downsampling)
    return model.eval()


def statistics_beside(file: Path, features: Features) -> Statistics:
    """Mean and std that lie in `meta` beside a file or beside its folder; else, of HumanML3D, those of published training."""
    for folder in (file.parent / "meta", file.parent.parent / "meta", file.parent):
        if (folder / "mean.npy").is_file() and (folder / "std.npy").is_file():
            mean, std = (read_array(folder / f"{name}.npy", finite=True).astype("float32") for name in ("mean", "std"))
            if mean.shape != (features.width,) or std.shape != mean.shape or not (std > 0).all():
                raise FileError(f"{folder}: mean {mean.shape} and std {std.shape}, expected {features.width} numbers, every std "
                                "above 0")  # fmt: skip
            return Statistics(mean, std, features)
    if features == HUMANML3D:
        data = Statistics.published("HumanML3D", features)
        return Statistics(data.mean, with_feature_bias(data.std, features, times=2), features)
    raise FileError(f"{file.parent / 'meta'} is absent: put mean.npy and std.npy of this tokenizer's training there; without "
                    "them its codes mean nothing")  # fmt: skip
