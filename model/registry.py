"""The systems there are, a record each, and which of them a path holds: a new system is one more record.

Nothing is imported before it is needed.
"""

import importlib
import logging
import re
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from protos.archives import is_archive
from protos.reading import read_json

CODE = Path(__file__).resolve().parents[1]  # the checkout, or where a wheel was installed
CARRIED = CODE / "moveo" / "checkpoints"  # of a wheel
CHECKPOINTS = CARRIED if CARRIED.is_dir() else CODE / "checkpoints"  # the weights that come with the code
WEIGHTS_FILE = "model.safetensors"
OF_ONE_CHECKPOINT = ("config.json", "args.json", "checkpoints/last.ckpt")  # ours or a published run of TMR, MDM's, TEMOS's

TRAINED_BY = {  # folders of `checkpoints/` that a default names, and what makes such where they did not come with the code
    "in2in": "train.train_in2in", "interclip": "train.train_interclip", "reaction": "train.train_reaction",
    "lamp/captioner": "train.train_m2t", "pgr2m": "train.train_refine_trans",
}  # fmt: skip
LAST_STAGE = "matching"  # of a run of train.train_evaluator, within its folder

log = logging.getLogger(__name__)


def steps(run: Path, file: str = WEIGHTS_FILE) -> list[Path]:
    """The step folders of a run in which `file` lies, oldest first: they are written whole or not at all."""
    found = [p for p in run.glob("step_*") if re.fullmatch(r"step_\d{9,18}", p.name) and (p / file).is_file()]
    return sorted(found, key=lambda path: int(path.name.removeprefix("step_")))


def _is_checkpoint(folder: Path) -> bool:
    return any((folder / name).is_file() for name in OF_ONE_CHECKPOINT)


def here_or_carried(path: str | Path) -> Path:
    """A path; where nothing lies there, checkpoints/NAME of the current folder stands for the weights of that name that come with
    the code, which lie elsewhere once they are installed, and those that did not come for checkpoints/NAME.
    """
    path, here = Path(path), Path("checkpoints")
    if path.exists():
        return path
    if path.is_relative_to(CHECKPOINTS):
        return here / path.relative_to(CHECKPOINTS)
    carried = CHECKPOINTS / path.relative_to(here) if path.is_relative_to(here) else path
    return carried if carried.exists() else path


def absent(path: Path) -> str:
    """What is to be done where nothing lies at the path of a checkpoint."""
    name = path.relative_to("checkpoints").as_posix() if path.is_relative_to("checkpoints") else ""
    if name in TRAINED_BY:
        return (f"these weights did not come with the code; python -m {TRAINED_BY[name]} makes such, "
                "whose folder --model_path takes")  # fmt: skip
    return ("expected a folder with config.json and model.safetensors, or a published one with args.json and "
            "model*.pt")  # fmt: skip


def checkpoint_in(path: str | Path) -> Path:
    """The checkpoint that a path stands for: of a training run's folder its `best`, else its newest step; else itself.

    A folder in which nothing but a checkpoint's folder lies, as unpacked archives make it, stands for that one.
    """
    path = here_or_carried(path)
    if not path.is_dir() or _is_checkpoint(path):
        return path
    within = [each for each in path.iterdir() if not each.name.startswith(".") and not is_archive(each)]
    if len(within) == 1 and _is_checkpoint(within[0]):
        return within[0]
    for run in (path, path / LAST_STAGE):
        best = run / "best"
        if found := [best] if (best / WEIGHTS_FILE).is_file() else steps(run)[-1:]:
            _say(path, found[0].relative_to(path).as_posix())
            return found[0]
    return path


def dataset_of(path: str | Path) -> str:
    """Name of the dataset that a checkpoint of ours was trained on. ValueError where the checkpoint does not say."""
    name = _settings(checkpoint_in(path)).get("dataset")
    if not isinstance(name, str):
        raise ValueError(f"{path} does not say which dataset it was trained on: give --dataset")
    return name


@cache
def _say(run: Path, taken: str) -> None:
    """Once a process: a command asks several times."""
    log.info("%s is the folder of a training run: taking its %s", run, taken)


MOST_SETTINGS = 16 << 20  # bytes of a config.json or args.json
MOST_NAMES = 64 << 20  # bytes of what a file of torch.save holds beside numbers
EVALUATOR_FILE = "text_mot_match/model/finest.tar"


def named(place: str) -> Any:
    """What `module:name` names."""
    module, _, name = place.partition(":")
    return getattr(importlib.import_module(module), name)


@dataclass(frozen=True)
class Layout:
    """How a system's authors published it. `recognises(path)` looks at names of files and parameters and at JSON only.

    `load` names a function (path, **given) -> model, `given` those of `takes`; `config` one (path) -> configuration, where that
    can be told without the weights.
    """

    recognises: Callable[[Path], bool]
    load: str
    config: str = ""
    takes: tuple[str, ...] = ("text_encoder",)


@dataclass(frozen=True)
class System:
    """`config` names the dataclass of its settings, `model` the class of its models, made as model(config, statistics, parts),
    by which it is known what they can do (`model/capabilities.py`). `parts`: the models it stands on, name -> system.
    """

    name: str
    config: str
    model: str
    parts: Mapping[str, str] = field(default_factory=dict)
    published: tuple[Layout, ...] = ()


def is_ours(path: Path) -> bool:
    """A folder of ours, or the weights in one. Its config.json names a system, those of TMR's runs describe a model."""
    if path.name == WEIGHTS_FILE:
        return True
    return (path / "config.json").is_file() and not is_tmr_run(path)


def is_tmr_run(path: Path) -> bool:
    """Whether a run folder of TMR as published: its config.json describes a model."""
    return "model" in _settings(path)


def _settings(folder: Path) -> dict[str, Any]:
    """The object in a folder's config.json; an empty one where there is none."""
    file = folder / "config.json"
    content = read_json(file, most=MOST_SETTINGS) if file.is_file() else None
    return content if isinstance(content, dict) else {}


def is_first_temos(path: Path) -> bool:
    """Whether a run folder, or a .ckpt, of the first release of TEMOS."""
    return path.suffix == ".ckpt" or (path / "checkpoints" / "last.ckpt").is_file()


def pickled_names(path: Path) -> bytes:
    """What a file of torch.save holds beside numbers, the names of its tensors among it; nothing where it is none."""
    try:
        with zipfile.ZipFile(path) as archive:
            about = next((each for each in archive.infolist() if each.filename.endswith("/data.pkl")), None)
            if about is None or about.file_size > MOST_NAMES:
                return b""
            with archive.open(about) as file:
                return file.read(MOST_NAMES)
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, ValueError, struct.error):
        return b""


def interclip_file(path: Path) -> Path | None:
    """The checkpoint of InterCLIP that a path is, or that lies in it, told by a name that its weights alone have; None where none
    is."""
    files = sorted(path.glob("*.ckpt")) if path.is_dir() else [path]
    found = (file for file in files if file.suffix == ".ckpt" and b"motion_encoder.query_token" in pickled_names(file))
    return next(found, None)


def is_mdm(path: Path) -> bool:
    """Whether a folder with args.json, or a file in one, as MDM publishes them."""
    return ((path if path.is_dir() else path.parent) / "args.json").is_file()


def in2in_file(path: Path) -> Path | None:
    """The checkpoint that a path holds of InterGen, in2IN or their one-person prior, told by the names of its parameters: the
    file itself, or the last of a folder. None where there is none.
    """
    found = sorted(path.iterdir(), key=_in_order) if path.is_dir() else [path]
    files = [file for file in found if file.suffix in (".pt", ".ckpt") and b"decoder.net" in pickled_names(file)]
    return files[-1] if files else None


def _in_order(path: Path) -> tuple[list[int], str]:
    """By the numbers in a name such as epoch=1999-step=352000.pt."""
    return [int(number) for number in re.findall(r"\d{1,18}", path.name)], path.name


TOKEN_FILES: dict[str, tuple[tuple[bytes, ...], tuple[bytes, ...]]] = {  # names of parameters that a file has, and has not
    "tokenizer": ((b"encoder.model.0.weight", b"codebook"), (b"query_tokens", b"pc_encoder")),
    "lamp": ((b"query_tokens", b"motion_projection", b"itm_head.weight"), ()),
    "m2t": ((b"query_tokens", b"motion_projection", b"opt_proj.weight"), ()),
    "lamp_t2m": ((b"query_tokens", b"token_emb.weight", b"text2former.weight"), ()),
    "masked": ((b"token_emb.weight", b"cond_emb.weight"), (b"query_tokens",)),
    "length": ((b"output.11.weight", b"output.9.weight"), (b"query_tokens",)),
    "residual": ((b"quant_emb.weight", b"cond_emb.weight"), (b"pose_tok_emb",)),
    "pg_tokenizer": ((b"encoder.model.0.weight", b"pc_encoder.codebook.weight"), ()),
    "como_decoder": ((b"decoder.model.0.weight", b"codebook.weight"), (b"encoder.model.0.weight",)),
    "pg_base": ((b"trans_base.tok_emb.weight", b"trans_head.head.weight"), ()),
    "pg_refine": ((b"pose_tok_emb.weight", b"quant_emb.weight"), ()),
}
LAST_OF_TOKENS = (  # each stands on one that comes later
    "residual", "masked", "lamp_t2m", "m2t", "lamp", "tokenizer", "pg_refine", "pg_base", "pg_tokenizer", "como_decoder",
)


def token_file(path: Path, kind: str) -> Path | None:
    """The published file of a kind in TOKEN_FILES that a path is, or that lies in it, in its folder `model` or in those of its
    folders, PGR2M's also in any folder of it, told by the names of its parameters; of several the one picked by FID. None where
    there is none.
    """
    deeper = "*/*" if kind.startswith(("pg_", "como_")) else "model/*"
    found = [*path.glob("*"), *path.glob(deeper), *path.glob("*/model/*")] if path.is_dir() else [path]
    files = [file for file in found if file.suffix in (".tar", ".pth", ".pt") and _holds(pickled_names(file), *TOKEN_FILES[kind])]
    return min(files, key=lambda file: (file.stem != "net_best_fid", file.as_posix()), default=None)


def _holds(names: bytes, wanted: tuple[bytes, ...], unwanted: tuple[bytes, ...]) -> bool:
    return all(name in names for name in wanted) and not any(name in names for name in unwanted)


def tokens_at(path: Path) -> str | None:
    """Which of them a path stands for: of a folder with several the one that stands on the others; None where there is none."""
    return next((kind for kind in LAST_OF_TOKENS if token_file(path, kind)), None)


def evaluator_at(path: Path) -> str | None:
    """Whose published evaluator, humanml or kit, lies in a folder; None where none does."""
    for name, dataset in (("t2m", "humanml"), ("kit", "kit")):
        if (path / name / EVALUATOR_FILE).is_file():
            return dataset
    if (path / EVALUATOR_FILE).is_file():
        return "kit" if path.resolve().name in ("kit", "t2m-evaluators-kit") else "humanml"
    return None


SYSTEMS = {  # the first whose layout recognises a path is taken; a .ckpt that nobody else knows counts as TEMOS's
    system.name: system for system in (
        System("lsremgm", "model.lsremgm_config:LSReMGMConfig", "model.lsremgm:LSReMGM", published=(
            Layout(is_mdm, "model.official.mdm:load_mdm", "model.official.mdm:config_at", ("text_encoder", "dataset_folder")),)),
        System("latent", "model.lsremgm_config:LatentConfig", "model.lsremgm:Latent", {"autoencoder": "motion_autoencoder"}),
        System("motion_autoencoder", "model.autoencoder_config:AutoencoderConfig", "model.autoencoder:MotionAutoencoder"),
        System("in2in", "model.in2in_config:In2INConfig", "model.in2in:In2IN", published=(
            Layout(lambda path: in2in_file(path) is not None, "model.official.in2in:load_in2in"),)),
        System("dualmdm", "model.in2in_config:DualMDMConfig", "model.dualmdm:DualMDM",
               {"interaction": "in2in", "individual": "in2in"}),
        System("reaction", "model.reaction_config:ReactionConfig", "model.reaction:Reaction",
               {"autoencoder": "motion_autoencoder"}),
        System("interclip", "model.interclip_config:InterCLIPConfig", "model.interclip:InterCLIP", published=(
            Layout(lambda path: interclip_file(path) is not None, "model.official.interclip:load_interclip"),)),
        System("vqvae", "model.vqvae_config:VQVAEConfig", "model.vqvae:VQVAE", published=(
            Layout(lambda path: tokens_at(path) == "tokenizer", "model.official.vqvae:load_vqvae", takes=()),)),
        System("lamp", "model.lamp_config:LaMPConfig", "model.lamp:LaMP", {"tokenizer": "vqvae"}, (
            Layout(lambda path: tokens_at(path) == "lamp", "model.official.lamp:load_lamp", takes=()),)),
        System("captioner", "model.captioner_config:CaptionerConfig", "model.captioner:Captioner", {"lamp": "lamp"}, (
            Layout(lambda path: tokens_at(path) == "m2t", "model.official.opt:load_m2t", takes=()),)),
        System("t2m_transformer", "model.token_transformer_config:TokenTransformerConfig",
               "model.token_transformers:TokenTransformer", {"tokenizer": "vqvae", "lamp": "lamp"}, (
                   Layout(lambda path: tokens_at(path) == "masked", "model.official.token_transformers:load_masked"),
                   Layout(lambda path: tokens_at(path) == "lamp_t2m", "model.official.lamp:load_lamp_t2m", takes=()))),
        System("residual_transformer", "model.token_transformer_config:ResidualConfig",
               "model.residual_transformer:ResidualTokenTransformer", {"base": "t2m_transformer"}, (
                   Layout(lambda path: tokens_at(path) == "residual", "model.official.token_transformers:load_residual"),)),
        System("pg_tokenizer", "model.pgr2m_config:PGTokenizerConfig", "model.pgr2m:PGTokenizer", published=(
            Layout(lambda path: tokens_at(path) in ("pg_tokenizer", "como_decoder"), "model.official.pgr2m:load_pg_tokenizer",
                   takes=()),)),
        System("pg_base", "model.pgr2m_transformer_config:PoseTransformerConfig", "model.pgr2m_transformers:PoseTextTransformer",
               {"tokenizer": "pg_tokenizer"}, (
                   Layout(lambda path: tokens_at(path) == "pg_base", "model.official.pgr2m:load_pg_base"),)),
        System("pg_refine", "model.pgr2m_transformer_config:PoseRefinerConfig", "model.pgr2m_transformers:PoseTextRefiner",
               {"base": "pg_base"}, (
                   Layout(lambda path: tokens_at(path) == "pg_refine", "model.official.pgr2m:load_pg_refine"),)),
        System("tmr", "model.tmr_config:TMRConfig", "model.tmr:TMR", published=(
            Layout(is_tmr_run, "model.official.tmr:load_tmr", "model.official.tmr:config_at"),
            Layout(is_first_temos, "model.official.temos:load_temos"))),
        System("evaluator", "model.evaluator_config:EvaluatorConfig", "model.evaluators:GuoEvaluator", published=(
            Layout(lambda path: evaluator_at(path) is not None, "model.official.evaluators:load_evaluator", takes=()),)),
        System("movement_autoencoder", "model.evaluator_config:EvaluatorConfig", "model.evaluators:MovementAutoencoder"),
        System("text_length_estimator", "model.text_length:TextLengthConfig", "model.text_length:TextLengthEstimator", published=(
            Layout(lambda path: tokens_at(path) is None and token_file(path, "length") is not None,
                   "model.official.token_transformers:load_length_estimator"),)),
        System("length_estimator", "model.evaluator_config:LengthEstimatorConfig", "model.evaluators:LengthEstimator"),
    )
}  # fmt: skip


def system_of(model: object) -> System:
    """The system of a model, or of a class of models. KeyError for one that no record names."""
    kind = model if isinstance(model, type) else type(model)
    place = f"{kind.__module__}:{kind.__qualname__}"
    found = next((system for system in SYSTEMS.values() if system.model == place), None)
    if found is None:
        raise KeyError(f"{place} is the model of no system in model/registry.py")
    return found


def published_at(path: Path) -> tuple[System, Layout] | None:
    """The system and the layout of a published checkpoint; None where there is none."""
    found = ((system, layout) for system in SYSTEMS.values() for layout in system.published if layout.recognises(path))
    return next(found, None)


def holding(path: Path) -> str | None:
    """The system whose checkpoint, of which the settings can be read without the weights, lies in a folder; None where none does.
    FileError for a damaged one.
    """
    if is_ours(path):
        name = _settings(path).get("system")
        return name if isinstance(name, str) and name in SYSTEMS else None
    found = published_at(path)
    return found[0].name if found and found[1].config else None


def able(capability: type) -> tuple[str, ...]:
    """Names of the systems whose models have a capability."""
    return tuple(name for name, system in SYSTEMS.items() if issubclass(named(system.model), capability))
