"""Which evaluator judges a dataset: the published ones of humanml and kit, for other data one of its own."""

from pathlib import Path

from data_loaders.corpus import Corpus
from model.embedding import TextMotionSpace, open_space
from model.evaluator_words import GLOVE_FOLDER
from model.registry import evaluator_at
from model.run_folder import checkpoint_in
from protos.official_files import official_folder

PLACES = {"humanml": "t2m", "kit": "kit"}  # where earlier versions put the published ones
EVALUATORS = Path(__file__).resolve().parents[1] / "checkpoints" / "evaluators"


def default_evaluator(corpus: Corpus) -> Path:
    """Where the evaluator of a dataset lies: the published ones of humanml and kit, others by the dataset's name."""
    name = corpus.published
    if name is None:
        return EVALUATORS / corpus.folder.name
    return official_folder(EVALUATORS.parent / "official" / f"t2m-evaluators-{name}", EVALUATORS / PLACES[name])


def load_judge(
    path: Path, corpus: Corpus, glove_folder: Path = GLOVE_FOLDER, device: str = "cpu"
) -> TextMotionSpace:
    """What judges by the folder `path`: an evaluator or a TMR model, ours or published.

    Raises CheckpointError, or FileNotFoundError where it or its word vectors are absent.
    """
    path, name = checkpoint_in(path), corpus.published
    if name is None and not (path / "config.json").is_file() and evaluator_at(path) is None:
        raise FileNotFoundError(f"{path}: no evaluator of {corpus.folder.name}; train one with "
                                f"python -m train.train_evaluator --dataset {corpus.folder.name}, or give another evaluator")
    return open_space(path, device, glove_folder=glove_folder, dataset=name, annotations=corpus.folder)
