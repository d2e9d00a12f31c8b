"""Weights are taken only if names, shapes, kinds and values are those that the configuration describes."""

import zipfile

import pytest
import torch
from safetensors.torch import save_file

from model.model import check_weights, read_safetensors, read_torch
from protos.reading import FileError

OWN = {"a": torch.zeros(2, 3), "count": torch.zeros((), dtype=torch.int64)}


def test_half_precision_weights_become_float32():
    read = check_weights({"a": torch.ones(2, 3).half(), "count": torch.tensor(3)}, OWN, "w")
    assert read["a"].dtype == torch.float32 and int(read["count"]) == 3


@pytest.mark.parametrize("change, words", [
    ({"a": torch.zeros(3, 2)}, r"shape \(3, 2\)"), ({"b": torch.zeros(1)}, "unexpected tensor b"), ({"a": None}, "a is absent"),
    ({"a": torch.zeros(2, 3, dtype=torch.int64)}, "int64, expected float32"), ({"a": torch.zeros(2, 3).bool()}, "bool"),
    ({"a": torch.zeros(2, 3, dtype=torch.complex64)}, "complex64"), ({"a": torch.full((2, 3), torch.nan)}, "NaN"),
    ({"count": torch.tensor(1.0)}, "float32, expected int64"), ({"a": torch.ones(2, 3).to_sparse()}, "sparse"),
    ({"a": torch.zeros(2, 3, device="meta")}, "without values"),
])  # fmt: skip
def test_other_weights_are_refused_by_name(change, words):
    found = {name: tensor for name, tensor in {**OWN, **change}.items() if tensor is not None}
    with pytest.raises(FileError, match=f"model.safetensors: .*{words}"):
        check_weights(found, OWN, "model.safetensors")


@pytest.mark.parametrize("content, words", [
    (None, "absent"), (b"", "empty"), (b"version https://git-lfs.github.com/spec/v1\n", "git-LFS"), (b"<!DOCTYPE html>", "HTML"),
    (b"\xff" * 100, "damaged"), (b"\x08\x00\x00\x00\x00\x00\x00\x00{}      ", None),
])  # fmt: skip
def test_what_is_no_file_of_weights_is_named_for_what_it_is(tmp_path, content, words):
    path = tmp_path / "model.safetensors"
    if content is not None:
        path.write_bytes(content)
    if words is None:
        assert read_safetensors(path) == {}
        return
    for read in (read_safetensors, read_torch):
        with pytest.raises(FileError, match=words):
            read(path)


def test_a_torn_file_of_weights_is_named(tmp_path):
    save_file(OWN, tmp_path / "a.safetensors")
    torch.save(OWN, tmp_path / "a.pt")
    for path, read in ((tmp_path / "a.safetensors", read_safetensors), (tmp_path / "a.pt", read_torch)):
        assert set(read(path)) == set(OWN)
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(FileError, match=path.name):
            read(path)


def test_weights_that_unpack_to_more_than_their_file_are_refused(tmp_path):
    torch.save({"a": torch.zeros(5_000_000)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as plain, zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as packed:
        for member in plain.infolist():
            packed.writestr(member.filename, plain.read(member))
    assert set(read_torch(tmp_path / "a.pt")) == {"a"} and "a" in torch.load(tmp_path / "bomb.pt", weights_only=True)
    with pytest.raises(FileError, match=r"bomb\.pt: unpacks to 20\.0 MB, far more than the file"):
        read_torch(tmp_path / "bomb.pt")


@pytest.mark.filterwarnings("ignore")  # TorchScript is old, and so are published files in it
def test_torchscript_packs_its_code_and_is_read(tmp_path):
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), str(tmp_path / "short.pt"))
    packed = zipfile.ZipFile(tmp_path / "packed.pt", "w", zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(tmp_path / "short.pt") as script, packed:
        for member in script.infolist():
            packed.writestr(member.filename, script.read(member))
    for name in ("short.pt", "packed.pt"):
        with pytest.raises(FileError) as refused:
            read_torch(tmp_path / name)
        assert "unpacks" not in str(refused.value)  # it is refused as what it is: code


class Runs:
    def __reduce__(self):
        return print, ("ran",)


def test_code_in_weights_is_not_run(tmp_path, capsys):
    torch.save({"a": Runs()}, tmp_path / "a.pt")
    with pytest.raises(FileError, match="more than tensors"):
        read_torch(tmp_path / "a.pt")
    assert "ran" not in capsys.readouterr().out
