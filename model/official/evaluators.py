"""The published evaluators and length estimators (text-to-motion, Guo et al. 2022): their files, names and statistics."""

from functools import partial
from pathlib import Path

from torch import Tensor

from data_loaders.features import Features, Statistics
from model.evaluator_config import EvaluatorConfig, LengthEstimatorConfig
from model.evaluators import GuoEvaluator, LengthEstimator
from model.model import as_state, read_torch
from model.official.weights import first_match, load_renamed
from model.registry import EVALUATOR_FILE, evaluator_at
from protos.files import shown
from protos.reading import FileError

KIT = Features(skeleton="kit", fps=12.5)
DATASETS = {
    "humanml": ("t2m", EvaluatorConfig(words="glove", tagger="spacy")),
    "kit": ("kit", EvaluatorConfig(words="glove", tagger="spacy", dataset="kit", features=KIT)),
}
LENGTH_CONFIGS = {
    "humanml": LengthEstimatorConfig(words="glove", tagger="spacy"),
    "kit": LengthEstimatorConfig(words="glove", tagger="spacy", dataset="kit", features=KIT, shortest_units=6),
}
MOVEMENT = "Decomp_SP001_SM001_H512/model/latest.tar"
LENGTHS = "length_est_bigru/model/latest.tar"
NOT_LOADED = {  # what the files hold beside networks: the state of their training
    EVALUATOR_FILE: ("opt_text_encoder", "opt_motion_encoder", "epoch", "iter"),
    MOVEMENT: ("opt_movement_enc", "opt_movement_dec", "ep", "total_it"),
    LENGTHS: ("opt_estimator", "epoch", "niter"),
}

# Our name -> the published one; the first match counts.
NAMES = (
    (r"(words\.)?reader\.input\.", "input_emb."),
    (r"(words\.)?reader\.(gru\.|hidden$)", r"\2"),
    (r"words\.pos_projection\.", "pos_emb."),
    (r"convolutions\.", "main."),
)
OUTPUTS = {  # what each network calls its last layers
    "text_encoder": "output_net.", "motion_encoder": "output_net.", "movement_encoder": "out_net.",
    "movement_decoder": "out_net.", "length_estimator": "output.",
}  # fmt: skip


def evaluator_name(name: str, network: str) -> str:
    """The published name of parameter `name` of one of the networks in OUTPUTS."""
    return first_match(name, (*NAMES, (r"output\.", OUTPUTS[network])))


def read_tar(path: Path, *networks: str) -> list[dict[str, Tensor]]:
    """State dicts of the named networks in a published `.tar` (torch's, not tape's); no pickled code is run.

    FileError where the file is absent or damaged, lacks one of them, or holds more than its kind does.
    """
    if not path.is_file():
        raise FileError(f"{path} is absent: python -m protos.fetch --list says where evaluators come from")
    content = read_torch(path)
    if missing := [name for name in networks if not isinstance(content, dict) or name not in content]:
        raise FileError(f"{path} holds no {missing[0]}")
    known = {*networks, *(name for file, names in NOT_LOADED.items() if path.match(file) for name in names)}
    if unknown := sorted(map(shown, set(content) - known)):
        raise FileError(f"{path} holds {unknown[0]}, which no published file of its name does")
    return [as_state(content[name], f"{path}, {name},") for name in networks]


def evaluator_statistics(dataset: str) -> Statistics:
    """The evaluator's own mean and std for humanml or kit, carried with the code: no other pair gives published numbers."""
    _, config = DATASETS[dataset]
    return Statistics.published(f"evaluator {dataset}", config.features, "float64")


def load_evaluator(folder: Path, dataset: str | None = None) -> GuoEvaluator:
    """The published evaluator in `folder`, or in its folder t2m or kit, in eval mode. dataset: humanml or kit, by default the
    one that is there.
    """
    dataset = dataset or evaluator_at(folder) or "humanml"
    name, config = DATASETS[dataset]
    evaluator = GuoEvaluator(config, evaluator_statistics(dataset))
    path = _find(folder, name, EVALUATOR_FILE)
    networks = ("text_encoder", "motion_encoder", "movement_encoder")
    for kind, state in zip(networks, read_tar(path, *networks)):
        load_renamed(evaluator.networks[kind], state, partial(evaluator_name, network=kind), f"{path}, {kind}")
    return evaluator.eval()


def load_length_estimator(folder: Path, dataset: str = "humanml") -> LengthEstimator:
    """The published length estimator in `folder`, in eval mode."""
    path = _find(folder, DATASETS[dataset][0], LENGTHS)
    estimator = LengthEstimator(LENGTH_CONFIGS[dataset])
    (state,) = read_tar(path, "estimator")
    load_renamed(estimator.networks, state, partial(evaluator_name, network="length_estimator"), str(path))
    return estimator.eval()


def _find(folder: Path, name: str, file: str) -> Path:
    nested = Path(folder) / name / file
    return nested if nested.is_file() else Path(folder) / file
