"""A look at a dataset: its pictures lie in one folder, whatever its clips are called, and nothing else there is touched."""

import json
import shutil
from pathlib import Path

import pytest

from protos.outputs import OutputError
from visualize.preview import PreviewOptions, run


@pytest.fixture
def dataset(small_dataset, tmp_path) -> Path:
    return shutil.copytree(small_dataset, tmp_path / "data")


def rename_first(dataset: Path, name: str) -> None:
    """The first clip under another name, as a dataset from anywhere may have it."""
    for file in (dataset / "corpus" / "index.json", dataset / "corpus" / "captions.json"):
        content = json.loads(file.read_text())
        if file.name == "index.json":
            old, content["names"][0] = content["names"][0], name
        else:
            content[name] = content.pop(old)
        file.write_text(json.dumps(content))


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["../../outside", "{here}/outside", "a/b", "walk\n%d 'x'", "nul", "x" * 300])
def test_names_of_clips_never_become_paths(dataset, tmp_path, name):
    (tmp_path / "outside.mp4").write_text("mine")
    rename_first(dataset, name.replace("{here}", str(tmp_path)))
    before = files(tmp_path)
    try:
        (video,) = run(PreviewOptions(str(dataset), num_clips=1))
    except ValueError as error:
        assert "\n" not in str(error) and files(tmp_path) == before  # such a dataset may be refused as a whole
    else:
        assert video.parent == dataset / "preview" and video.is_file() and len(video.name) < 140
        assert {Path(new).parent for new in files(tmp_path) - before} == {Path("data/preview")}
    assert (tmp_path / "outside.mp4").read_text() == "mine"


def test_a_preview_is_made_anew_and_other_files_stay(dataset):
    options, shown = PreviewOptions(str(dataset), num_clips=2), dataset / "preview"
    first = run(options)
    (shown / "notes.txt").write_text("mine")
    assert run(options) == first and (shown / "notes.txt").read_text() == "mine"
    (shown / "manifest.json").unlink()
    with pytest.raises(OutputError, match="is there already and was not written by this program"):
        run(options)
    (shown / "notes.txt").unlink()
    assert run(options) == first  # as a version without manifests left it
