import os
import tempfile
from pathlib import Path

import pytest

from data_loaders.features import Features

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors everywhere: more threads only wait for each other

_cache = tempfile.TemporaryDirectory(prefix="moveo_tests_")
os.environ["XDG_CACHE_HOME"] = _cache.name  # what earlier runs left behind must not decide a test


def pytest_unconfigure(config):
    _cache.cleanup()


def pytest_collection_modifyitems(config, items):
    """Slow tests run in CI (CI=true) or when asked for with -m."""
    if os.environ.get("CI") == "true" or config.option.markexpr:
        return
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="slow: runs with CI=true or -m slow"))


@pytest.fixture(scope="session")
def recordings(tmp_path_factory) -> Path:
    """A folder of made-up BVH recordings with captions and splits."""
    from tests.synthetic import write_recordings

    folder = tmp_path_factory.mktemp("recordings")
    write_recordings(folder)
    return folder


@pytest.fixture(scope="session")
def small_dataset(tmp_path_factory, recordings) -> Path:
    """The recordings as a prepared dataset."""
    from data_loaders.preparation import prepare
    from data_loaders.read_recordings import PreparationSettings

    folder = tmp_path_factory.mktemp("prepared") / "small"
    prepare(PreparationSettings("bandai_namco", input=recordings, output=folder, workers=1))
    return folder


@pytest.fixture(scope="session")
def bandai_namco(tmp_path_factory) -> Path:
    """The prepared recordings of Bandai-Namco: those of this checkout, or else prepared now without mirrored twins."""
    from data_loaders.preparation import prepare
    from data_loaders.read_recordings import PreparationSettings
    from tests.shared import shared

    prepared = Path(__file__).resolve().parents[1] / "dataset" / "bandai_namco"
    if (prepared / "corpus" / "index.json").is_file():
        return prepared
    folder = tmp_path_factory.mktemp("bandai") / "bandai_namco"
    prepare(PreparationSettings("bandai_namco", input=shared("data", "bandai_namco"), output=folder, mirror=False))
    return folder


@pytest.fixture(scope="session")
def pool_dataset(tmp_path_factory) -> Path:
    """A dataset with enough test clips, walks and raised hands, to fill a pool of 32."""
    from tests.synthetic import pool_corpus

    return pool_corpus(tmp_path_factory.mktemp("pools") / "made_up")


@pytest.fixture(scope="session")
def tiny_evaluator(tmp_path_factory) -> Path:
    """Checkpoint folder of an untrained evaluator of motions as `pool_dataset` has them."""
    import torch

    from model.checkpoints import save_pretrained
    from model.evaluator_config import EvaluatorConfig
    from model.evaluators import GuoEvaluator
    from tests.synthetic import POOL_STATISTICS

    torch.manual_seed(0)
    config = EvaluatorConfig(movement_hidden=8, movement_latent=8, text_hidden=8, motion_hidden=8, embedding=8,
                             words="minilm", word_dim=384, pos_dim=0, features=Features(heading="continuous"))  # fmt: skip
    folder = tmp_path_factory.mktemp("evaluator") / "tiny"
    save_pretrained(folder, GuoEvaluator(config, POOL_STATISTICS))
    return folder


@pytest.fixture(scope="session")
def pair_dataset(tmp_path_factory) -> Path:
    """A made-up dataset of two people, whose splits share no clip."""
    from tests.pairs import pair_corpus

    return pair_corpus(tmp_path_factory.mktemp("pairs") / "made_up")


@pytest.fixture(scope="session")
def judge(tmp_path_factory) -> Path:
    """An untrained judge of two people."""
    from tests.tiny_people import tiny_interclip

    return tiny_interclip(tmp_path_factory.mktemp("judge") / "tiny")


@pytest.fixture(scope="session")
def tmr(tmp_path_factory) -> Path:
    """Checkpoint folder of an untrained TMR."""
    from tests.tiny_retrieval import saved_tmr

    return saved_tmr(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def raw(tmp_path) -> Path:
    """A folder of two recordings in the train split."""
    from tests.recordings import two_recordings

    return two_recordings(tmp_path / "raw")


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def motions(folder) -> Path:
    """Motion files in a folder to work beside."""
    from tests.tiny_retrieval import write_motions

    return write_motions(folder / "motions")


@pytest.fixture(scope="session")
def gallery(tmp_path_factory, tmr, small_dataset) -> Path:
    """A gallery that the demo made itself, as on a first start."""
    from sample.demo_service import Finder, open_search

    folder = tmp_path_factory.mktemp("demo") / "gallery"
    assert isinstance(open_search(model_path=tmr, dataset=str(small_dataset), gallery=folder), Finder)
    return folder


@pytest.fixture(scope="session")
def search(gallery):
    """What the demo searches with."""
    from sample.demo_service import open_search

    search = open_search(gallery=gallery, max_upload=1.0)
    yield search
    search.read_upload.close()


@pytest.fixture(scope="session")
def maker(tmr):
    """What the demo makes motions with."""
    from sample.demo_maker import Maker, motion_checkpoints

    found = motion_checkpoints([tmr.parent])
    return Maker({"starter": found["starter"], "tiny": found[tmr.as_posix()]}, "cpu")
