import os
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors everywhere: more threads only wait for each other

from tests.synthetic import write_recordings


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
    folder = tmp_path_factory.mktemp("recordings")
    write_recordings(folder)
    return folder


@pytest.fixture(scope="session")
def small_dataset(tmp_path_factory, recordings) -> Path:
    """The recordings as a prepared dataset."""
    from data_loaders.prepare import PrepareOptions, prepare

    folder = tmp_path_factory.mktemp("prepared") / "small"
    prepare(PrepareOptions("bandai_namco", recordings, folder, workers=1))
    return folder
