"""No room for a file: one line that names it, nothing half written, and the same command once there is room."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from data_loaders.features import HUMANML3D
from data_loaders.motion_files import read_results
from model.text_encoders import sha256_of
from protos.files import FULL, atomic_file, atomic_folder, is_partial
from sample.long_motion import in_file
from tests.attack.runner import Ending, run
from tests.synthetic import random_corpus
from train.checkpoints import complete

TRAIN = ("--dataset dataset --save_dir run --num_layers 1 --latent_dim 16 --ff_size 32 --num_heads 2 --diffusion_steps 10 "
         "--mask_frames --batch_size 4 --log_interval 1 --save_interval 2 --device cpu --num_workers 0")  # fmt: skip
SAMPLE = "--text_prompt walk --motion_length 1 --sampling_steps 2 --num_repetitions 1 --no_video --device cpu --output_dir made"


@contextmanager
def room(most: int) -> Iterator[None]:
    """No file may grow beyond so many bytes: what writes it is told so, as by a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def ends(module: str, arguments: str, folder: Path, most: int | None = None) -> Ending:
    with room(most if most is not None else resource.RLIM_INFINITY):
        return run(module, arguments.split(), folder, limited=False)


def told(ending: Ending, *words: str) -> None:
    """Whether it ended with one line that has these words and the remedy."""
    assert ending.code == 1 and len(ending.errors) == 1, ending
    assert all(word in ending.errors[0] for word in (*words, "make room there and give the same command again")), ending


def left(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob("*") if is_partial(path.name)]


def test_training_goes_on_from_the_last_whole_checkpoint(tmp_path):
    random_corpus(tmp_path / "dataset")
    save_dir, step = tmp_path / "run", "run/step_000000004"
    assert ends("train.train_lsremgm", f"{TRAIN} --num_steps 2", tmp_path).code == 0
    sizes = {path.name: path.stat().st_size for path in complete(save_dir)[0].iterdir()}
    assert sizes["training_state.pt"] > sizes["model.safetensors"] > 2000 + sizes["config.json"]
    log = save_dir / "log.jsonl"
    log.write_text(f"{log.read_text()}{'#' * 5000}\n")
    for most, file in ((sizes["model.safetensors"] - 1, f"{step}/model.safetensors"), (log.stat().st_size + 20, "run/log.jsonl"),
                       (sizes["training_state.pt"] - 1000, f"{step}/training_state.pt")):  # fmt: skip
        told(ends("train.train_lsremgm", f"{TRAIN} --num_steps 4", tmp_path, most), file)
        assert [path.name for path in complete(save_dir)] == ["step_000000002"] and not left(tmp_path)
    assert ends("train.train_lsremgm", f"{TRAIN} --num_steps 4", tmp_path).code == 0
    assert complete(save_dir)[-1].name == "step_000000004"
    export = "--checkpoint run --output small"
    told(ends("train.export", export, tmp_path, 2000 + sizes["config.json"]), "small/model.safetensors")
    assert not (tmp_path / "small").exists() and not left(tmp_path)
    assert ends("train.export", export, tmp_path).code == 0


def test_a_sampling_run_leaves_its_motions_whole_or_nothing(tmp_path):
    told(ends("sample.sample", SAMPLE, tmp_path, 3000), "made/motions.npz")
    assert not list(tmp_path.iterdir())
    ending = ends("sample.sample", f"{SAMPLE} --html", tmp_path, 20_000)
    told(ending, "made/prompt00.html", "the motions themselves are whole: python -m visualize.render made/motions.npz")
    assert len(read_results(tmp_path / "made").motions) == 1 and not left(tmp_path)
    assert {path.name for path in (tmp_path / "made").iterdir()} == {"joints", "motions.npy", "motions.npz", "motions.txt",
                                                                    "motions_len.txt"}  # fmt: skip


def test_numpy_and_torch_say_which_file_it_was(tmp_path):
    """numpy of itself: '40000 requested and 4096 written'; torch: 'unexpected pos 576 vs 534'."""
    with room(5000), pytest.raises(OSError, match=r"a\.npy") as error, atomic_file(tmp_path / "a.npy") as file:
        np.save(file, np.zeros(100_000, np.float32))
    assert error.value.errno in FULL
    with room(5000), pytest.raises(OSError, match="weights") as error, atomic_folder(tmp_path / "weights") as folder:
        torch.save({"a": torch.zeros(10_000)}, folder / "a.pt")
    assert error.value.errno in FULL and not list(tmp_path.iterdir())


def test_a_long_motion_that_does_not_fit_is_an_error(tmp_path):
    """Not the end of the process, which a mapped file on a full disk would be."""
    pieces = [np.zeros((50, 22, 3)) for _ in range(4)]
    with room(20_000), pytest.raises(OSError, match=r"long\.npy"):
        in_file(pieces, 200, tmp_path / "long.npy", HUMANML3D)
    assert in_file([piece + 1 for piece in pieces], 200, tmp_path / "long.npy", HUMANML3D).joints.min() == 1


def test_networks_for_other_programs_are_written_whole_or_not_at_all(tmp_path):
    """The runtime that writes them a second time, with what is constant computed, says 'Protobuf serialization failed'."""
    pytest.importorskip("onnxscript", reason="pip install -e '.[export]'")
    from model.network_calls import Input, NetworkCall
    from train.onnx_files import fold, write_network

    path = tmp_path / "a.onnx"
    write_network(path, NetworkCall(torch.nn.Linear(200, 200), {"input": Input(("batch", 200))}))
    whole = path.read_bytes()
    with room(len(whole) // 2), pytest.raises(OSError, match=r"a\.onnx") as error:
        fold(path)
    assert error.value.errno in FULL and path.read_bytes() == whole and not left(tmp_path)


def test_a_digest_that_was_cut_short_is_computed_again(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "weights").write_bytes(b"weights")
    found = sha256_of(tmp_path / "weights")
    record = tmp_path / "cache" / "moveo" / "sha256.txt"
    record.write_text(record.read_text().rstrip()[:-10])
    assert sha256_of(tmp_path / "weights") == found
    assert record.read_text().splitlines()[-1].endswith(found)
