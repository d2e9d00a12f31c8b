"""The wheel: what is in it, and that it works in any folder without the checkout."""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

from moveo.__main__ import FOLDERS
from tests.synthetic import walk
from tests.test_house import LAYERS

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 70e6  # bytes
TOO_LARGE: tuple[str, ...] = ("checkpoints/lamp",)  # folders of checkpoints/ in git that a wheel has no room for
# What may lie beside ours in a checkout, and nobody may pass on.
OF_OTHERS = ("checkpoints/official/smpl/SMPL_NEUTRAL.pkl", "checkpoints/evaluators/t2m/finest.tar",
             "checkpoints/mine/config.json", "dataset/mine/Mean.npy", "save/run/config.json", "outputs/run/a.npy")  # fmt: skip
QUICK = ("--text_prompt", "a person waves", "--motion_length", "1", "--num_repetitions", "1", "--sampling_steps", "2",
         "--device", "cpu")  # fmt: skip
pytestmark = pytest.mark.slow


def in_git() -> list[str]:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout: what belongs into a wheel is not known")
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A wheel of what git knows, built beside files of others."""
    checkout, folder = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("dist")
    for name in in_git():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, checkout / name)
    for name in OF_OTHERS:
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_bytes(b"of others")
    done = subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(checkout)],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (built,) = folder.glob("*.whl")
    return built


def test_a_wheel_holds_all_that_the_code_reads_and_nothing_else(wheel):
    expected = set()
    for name in in_git():
        if name.startswith("checkpoints/"):
            expected |= set() if name.startswith(tuple(f"{each}/" for each in TOO_LARGE)) else {f"moveo/{name}"}
        elif name.split("/")[0] in (*LAYERS, "moveo"):
            expected.add(name)
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert held == expected, f"missing: {sorted(expected - held)}; too many: {sorted(held - expected)}"
    assert {"moveo/checkpoints/starter/model.safetensors", "moveo/checkpoints/README.md", "evaluations/edit_probes.toml"} <= held


def test_a_wheel_is_small_and_says_under_which_licences_it_comes(wheel):
    assert wheel.name == "moveo-0.1.0-py3-none-any.whl" and wheel.stat().st_size <= LARGEST
    with zipfile.ZipFile(wheel) as archive:
        (about,) = (archive.read(name).decode() for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
    assert "License-Expression: MIT AND CC-BY-NC-4.0 AND CC0-1.0\n" in about
    assert "Requires-Dist: torch>=2.6\n" in about


class Installed:
    """Where the wheel was installed, and folders to call it from."""

    def __init__(self, site: Path, places: Path):
        self.site, self.places = site, places

    def run(self, place: str, *words: str, decoys: bool = False) -> subprocess.CompletedProcess:
        """`words` in a new folder `place`; with decoys the user has code there by the names of ours."""
        folder = self.places / place
        folder.mkdir()
        for name in (*LAYERS, "moveo") if decoys else ():
            (folder / name).mkdir()
            (folder / name / "__init__.py").write_text(f"raise SystemExit('{name} of the current folder was imported')")
        environment = {**os.environ, "PYTHONPATH": str(self.site), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
        return subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=300)

    def moveo(self, place: str, *words: str) -> subprocess.CompletedProcess:
        """The console script among decoys."""
        return self.run(place, str(self.site / "bin" / "moveo"), *words, decoys=True)

    def joints(self, place: str) -> np.ndarray:
        (file,) = (self.places / place).glob("outputs/*/joints/*.npy")
        assert list(file.parents[1].glob("*.mp4"))
        return np.load(file)


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Installed:
    """Without its dependencies, which are those of this Python; nothing leads to the checkout."""
    site = tmp_path_factory.mktemp("site")
    done = subprocess.run([sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel)],
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found = Installed(site, tmp_path_factory.mktemp("places"))
    told = found.run("where", "-c", "import model, moveo, sample.generation as made; print(made.__file__, made.STARTER)")
    assert told.stdout.split() == [str(site / "sample" / "generation.py"), str(site / "moveo" / "checkpoints" / "starter")]
    return found


def test_moveo_samples_in_any_folder_as_python_m_does(installed):
    before = {path for path in installed.site.rglob("*") if "__pycache__" not in path.parts}
    for done in (
        installed.moveo("by_moveo", "sample", *QUICK),
        installed.run("by_python", "-m", "sample.sample", *QUICK),
        installed.run("by_python_alone", "-P", "-m", "sample.sample", *QUICK, decoys=True),
    ):
        assert done.returncode == 0, done.stderr[-2000:]
    made = installed.joints("by_moveo")
    assert len(made) and made.shape[1:] == (22, 3)
    for place in ("by_python", "by_python_alone"):
        np.testing.assert_array_equal(installed.joints(place), made)
    assert {path for path in installed.site.rglob("*") if "__pycache__" not in path.parts} == before


def test_moveo_alone_lists_the_commands_it_came_with(installed):
    told = installed.moveo("listing")
    assert told.returncode == 0, told.stderr
    assert all(f"{purpose}:\n" in told.stdout for purpose in FOLDERS.values()) and "  train_latent " in told.stdout


def test_processes_that_moveo_starts_import_what_it_imports(installed):
    (installed.places / "motions").mkdir()
    for seed in range(2):
        np.save(installed.places / "motions" / f"{seed}.npy", walk(20 + seed).astype(np.float32))
    done = installed.moveo("written", "render", "../motions", "--format", "bvh,mp4", "--workers", "2")
    assert done.returncode == 0, done.stderr[-2000:]
    assert len(list(installed.places.glob("written/outputs/*/*.*"))) == 4


def test_weights_that_came_along_are_found_by_their_folder_and_others_are_asked_for_by_theirs(installed):
    vector = ("retrieve", "encode_text", "--text", "a person walks", "--output", "walk.npy", "--device", "cpu")
    done = installed.moveo("named", *vector, "--model_path", "checkpoints/tmr")
    assert done.returncode == 0 and (installed.places / "named" / "walk.npy").is_file(), done.stderr[-2000:]
    absent = installed.moveo("absent", "caption", "clip.npy")
    assert absent.returncode == 1 and "no checkpoint at checkpoints/lamp/captioner" in absent.stderr, absent.stderr


@pytest.mark.skipif("MOVEO_TEST_INSTALL" not in os.environ, reason="minutes and a gigabyte: runs where MOVEO_TEST_INSTALL is set")
def test_pip_installs_the_wheel_with_all_it_needs_into_an_empty_environment(wheel, tmp_path):
    """Of the versions of requirements.txt, from the indexes that pip is set up with."""
    venv.create(tmp_path / "venv", with_pip=True)
    programs = tmp_path / "venv" / "bin"
    command = [str(programs / "python"), "-m", "pip", "install", "-q", "-c", str(ROOT / "requirements.txt"), str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for words in ([programs / "moveo", "sample"], [programs / "python", "-m", "sample.sample"]):
        sampled = subprocess.run([*words, *QUICK], cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert sampled.returncode == 0, sampled.stderr[-2000:]
    assert len(list(tmp_path.glob("outputs/*/*.mp4"))) >= 2
