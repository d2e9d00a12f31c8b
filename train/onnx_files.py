"""A model as ONNX: its networks, one call each, the numbers of the loop around them, prompts as it reads them, and an example."""

import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_loaders.features import KINDS, Features
from model.model import Model
from model.network_calls import CalledOutside, NetworkCall, SampledOutside, text_call
from model.registry import system_of
from model.text_encoders import PieceReader
from protos.files import atomic_path, encode_json, no_room, write_atomically
from protos.outputs import new_folder
from protos.reading import FileError

EXAMPLE = Path(__file__).with_name("onnx_sample.py")
SIZES = {"batch": 2, "tokens": 8, "frames": 12, "words": 5}  # of an example of inputs; any others will do later
ONNX = "ONNX export"  # what the folder is
MADE = ("joints.npy", "features.npy")  # what the example writes beside itself
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
INT8 = ".int8"  # what is added to the name of a network whose linear layers are rounded


def require_onnx() -> None:
    """FileError where a package is not installed."""
    if lack := [name for name in PACKAGES if not importlib.util.find_spec(name)]:
        raise FileError(f'ONNX files need {", ".join(lack)}: pip install -e ".[export]"')


def write_onnx(folder: Path, model: Model, prompts: Sequence[str], *, overwrite: bool = False, int8: bool = False) -> list[Path]:
    """Writes the folder, whole or not at all, and returns its networks.

    Of a model sampled in a loop also `settings.json`, `loop.npz`, the features of the prompts (`prompts.npz`), `sample.py`
    and, where other programs can read texts for it, `vocab.txt`; of others, settings and statistics. int8: each network also with
    linear layers in eight bits. FileError where a package is absent, ValueError for a model that has no such networks, or a
    sampler that is more than weights.
    """
    require_onnx()
    if not isinstance(model, CalledOutside):
        raise ValueError(f"a model of kind {system_of(model).name} has no network that is one call: it cannot be written as ONNX")
    sampled = isinstance(model, SampledOutside)
    if sampled and not prompts:
        raise ValueError("the checkpoint has no prompts of its own: give --prompts FILE, one a line")
    model.to("cpu").eval()
    numbers = model.loop_numbers() if sampled else statistics_of(model)
    reader = reader_of(model)
    with new_folder(folder, ONNX, overwrite=overwrite, flag="--onnx", later=MADE if sampled else ()) as temporary:
        for name, call in calls_of(model).items():
            write_network(temporary / f"{name}.onnx", call)
            if int8:
                write_int8(temporary / f"{name}.onnx")
        write_atomically(temporary / "settings.json", encode_json(settings_of(model), "settings.json", indent=1))
        write_atomically(temporary / "loop.npz" if sampled else temporary / "stats.npz", npz(numbers))
        if sampled:
            with torch.no_grad():
                given = {name: value.numpy() for name, value in model.prompt_inputs(prompts).items()}
            write_atomically(temporary / "prompts.npz", npz({"texts": np.array(prompts), **given}))
            write_atomically(temporary / "sample.py", EXAMPLE.read_bytes())
        if reader:
            write_atomically(temporary / "vocab.txt", "\n".join(reader.pieces).encode())
    return sorted(folder.glob("*.onnx"))


def reader_of(model: CalledOutside) -> PieceReader | None:
    """What reads a model's texts, where other programs can do that too."""
    return model.piece_reader() if isinstance(model, SampledOutside) else None


def calls_of(model: CalledOutside) -> dict[str, NetworkCall]:
    """The networks of a model, `text_encoder` among them where one call reads its texts."""
    reader = reader_of(model)
    return model.network_calls() | ({"text_encoder": text_call(reader)} if reader else {})


def settings_of(model: CalledOutside) -> dict[str, Any]:
    """What a program around the networks has to know beside `loop_numbers`."""
    settings = {"system": system_of(model).name, "features": asdict(model.features), "body": body_of(model.features)}
    if isinstance(model, SampledOutside):
        settings |= model.loop_settings()
    if reader := reader_of(model):
        settings["text"] = {"max_tokens": reader.max_tokens, "unit_length": reader.unit_length}
    return settings


def write_network(path: Path, call: NetworkCall) -> None:
    """One .onnx with its weights in it, whose named axes may be of any size."""
    example = {name: torch.ones([SIZES.get(axis, axis) for axis in each.axes], dtype=each.dtype)
               for name, each in call.inputs.items()}  # fmt: skip
    axes = {name: {i: axis for i, axis in enumerate(each.axes) if isinstance(axis, str)} for name, each in call.inputs.items()}
    with torch.no_grad(), quiet():
        torch.onnx.export(call.network.eval(), (), path, kwargs=example, dynamic_shapes=axes, output_names=["y"], dynamo=True,
                          external_data=False, verbose=False)  # fmt: skip
        fold(path)


def fold(path: Path) -> None:
    """Writes an .onnx anew with what weights alone decide (their slices and turns) computed once: only then are they seen as
    weights by what rounds them."""
    from onnxruntime import GraphOptimizationLevel, InferenceSession, SessionOptions

    options = SessionOptions()
    options.graph_optimization_level = GraphOptimizationLevel.ORT_ENABLE_BASIC  # operations of the standard alone
    with atomic_path(path) as temporary:
        options.optimized_model_filepath = str(temporary)
        try:
            InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of a kind of its own, which says no more
            raise no_room(path) if "serialization failed" in str(error) else error from None


def write_int8(path: Path) -> Path:
    """NAME.int8.onnx beside NAME.onnx: weights of linear layers in eight bits, a scale per column; what they read is rounded
    as it comes."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    rounded = path.with_name(f"{path.stem}{INT8}.onnx")
    with quiet():
        quantize_dynamic(path, rounded, per_channel=True, weight_type=QuantType.QInt8)
    return rounded


@contextmanager
def quiet() -> Iterator[None]:
    """Without what the libraries say of each node they look at, and of names of axes that two inputs share."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def body_of(features: Features) -> dict[str, Any]:
    """What turns features into joints, beside the columns; nothing where they hold rotations alone."""
    if not KINDS[features.kind].codec:
        return {}
    return {"num_joints": features.body.num_joints, "metres_per_unit": features.body.metres_per_unit}


def statistics_of(model: Model) -> dict[str, np.ndarray]:
    """Mean and std of the columns; nothing of a model that has none."""
    return {} if model.mean is None else {"mean": model.mean.numpy(), "std": model.std.numpy()}


def npz(arrays: dict[str, np.ndarray]) -> bytes:
    """The bytes of an .npz."""
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()
