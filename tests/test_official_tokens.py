"""Files of LaMP and MoMask: told by their parameters, found beside one another, damaged ones named."""

from pathlib import Path

import numpy as np
import pytest
import torch

from model.capabilities import Decoding, Request
from model.checkpoints import from_pretrained
from model.lamp import LaMP
from model.official.lamp import HEADS
from model.official.token_transformers import transformer_name
from model.official.vqvae import PREFIX, codebook_names, tokenizer_name
from model.registry import published_at
from model.text_towers import load_text_encoder
from model.token_transformers import OverTokens
from model.vqvae import VQVAE
from protos.reading import FileError
from tests.golden.lamp_pretraining import as_published
from tests.tiny_tokens import tiny_lamp, tiny_residual, tiny_tokenizer, tiny_transformer

REQUEST = [Request("a person waves", 24, 1)]
DECODING = Decoding(sampling_steps=4, top_k=0.5)


def of_tokenizer(made: VQVAE, prefix: str = "") -> dict[str, torch.Tensor]:
    ours, levels, one = made.network.state_dict(), made.config.num_levels, bool(prefix)
    state = {tokenizer_name(name, levels): value for name, value in ours.items() if not name.startswith("codebooks.")}
    state |= dict(zip(codebook_names(made.config.num_quantizers, one), ours["codebooks.codes"], strict=True))
    return {prefix + name: value for name, value in state.items()}


def of_transformer(made: OverTokens) -> dict[str, torch.Tensor]:
    named = {transformer_name(name): value for name, value in made.transformer.state_dict().items()}
    return {**named, "position_enc.pe": torch.zeros(5000, 1, 16)}


def of_qformer(made: LaMP) -> dict[str, torch.Tensor]:
    return as_published(dict(made.qformer.state_dict()))


def write(path: Path, key: str, state: dict[str, torch.Tensor]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({key: state, "ep": 1}, path)
    return path


def write_statistics(folder: Path) -> None:
    folder.mkdir(parents=True)
    for name in ("mean", "std"):
        np.save(folder / f"{name}.npy", np.full(263, float(name == "std"), np.float32))


@pytest.fixture(autouse=True)
def small_heads(monkeypatch):
    """As many attention heads as the small models have."""
    monkeypatch.setattr("model.official.token_transformers.HEAD_SIZE", 8)
    monkeypatch.setattr("model.official.lamp.HEAD_SIZE", 32)


@pytest.fixture
def momask(tmp_path):
    """The runs of a tokenizer, a masked and a residual transformer, as MoMask lays them, and the model."""
    made = tiny_residual()
    runs = {"rvq": ("vq_model", of_tokenizer(made.tokenizer)), "masked": ("t2m_transformer", of_transformer(made.base)),
            "residual": ("res_transformer", of_transformer(made))}  # fmt: skip
    for name, (key, state) in runs.items():
        write(tmp_path / "t2m" / name / "model" / "net_best_fid.tar", key, state)
    write_statistics(tmp_path / "t2m" / "rvq" / "meta")
    return tmp_path / "t2m", made


@pytest.mark.parametrize("place", [".", "residual", "residual/model/net_best_fid.tar"])
def test_momasks_runs_are_found_beside_one_another(momask, place):
    folder, made = momask
    assert published_at(folder / place)[0].name == "residual_transformer"
    loaded = from_pretrained(folder / place, text_encoder=load_text_encoder("minilm"))
    loaded.base.text_encoder = loaded.text_encoder
    assert torch.allclose(loaded.generate(REQUEST, DECODING)[0], made.generate(REQUEST, DECODING)[0], atol=1e-6)
    assert (loaded.config.guidance_scale, loaded.base.config.guidance_scale) == (5.0, 4.0)


def test_the_masked_transformer_alone_is_a_model_too(momask):
    folder, made = momask
    assert published_at(folder / "masked")[0].name == "t2m_transformer"
    loaded = from_pretrained(folder / "masked", text_encoder=load_text_encoder("minilm"))
    assert torch.allclose(loaded.generate(REQUEST, DECODING)[0], made.base.generate(REQUEST, DECODING)[0], atol=1e-6)


def test_a_run_without_what_it_stands_on_says_what_is_missing(momask, tmp_path):
    folder, _ = momask
    alone = tmp_path / "a" / "b" / "c" / "masked"
    (folder / "masked").rename(alone.parent.mkdir(parents=True) or alone)
    with pytest.raises(FileError, match="no tokenizer lies beside it"):
        from_pretrained(alone)
    with pytest.raises(FileError, match="no masked transformer lies beside it"):
        from_pretrained(folder / "residual")


def test_codes_of_another_width_or_number_than_the_tokenizers_are_named(momask):
    folder, _ = momask
    write(folder / "rvq" / "model" / "net_best_fid.tar", "vq_model", of_tokenizer(tiny_tokenizer(3, code_dim=10)))
    with pytest.raises(FileError, match="codes of 6 channels, its tokenizer has codes of 10"):
        from_pretrained(folder / "masked")
    write(folder / "rvq" / "model" / "net_best_fid.tar", "vq_model", of_tokenizer(tiny_tokenizer(3, num_codes=30)))
    for run in ("masked", "residual"):
        with pytest.raises(FileError, match="made for 8 codes, its tokenizer has 30"):
            from_pretrained(folder / run)
    write(folder / "rvq" / "model" / "net_best_fid.tar", "vq_model", of_tokenizer(tiny_tokenizer(3, num_levels=6)))
    with pytest.raises(FileError, match="a token of 64 frames, expected 4"):
        from_pretrained(folder / "masked")


@pytest.fixture
def lamp(tmp_path):
    """LaMP's files in one folder, the pretrained model, and the transformer."""
    made = tiny_lamp(frozen_text=False, own_encoder=True, mask_motion=False, duplicates="published", plain_texts=False)
    masked = tiny_transformer({"lamp": made}, key_padding=False, attention="tril_plus_one")
    encoder = made.networks["motion_encoder"].state_dict()
    state = of_qformer(made) | {theirs: made.heads.state_dict()[ours] for ours, theirs in HEADS.items()}
    state |= of_tokenizer(made.tokenizer, f"vq_model.{PREFIX}")
    state |= {f"motion_{tokenizer_name(f'encoder.{name}', 2)}": value for name, value in encoder.items()}
    write(tmp_path / "h3d-qformer.tar", "motion_qformer", state)
    reader = {f"text2former.{kind}": value for kind, value in masked.networks["text_reader"].state_dict().items()}
    write(tmp_path / "t2m" / "t2m.tar", "t2m_transformer", of_transformer(masked) | of_qformer(made) | reader)
    write_statistics(tmp_path / "meta")
    return tmp_path, made, masked


def test_lamps_pretrained_model_embeds_as_it_did(lamp):
    folder, made, _ = lamp
    loaded = from_pretrained(folder / "h3d-qformer.tar")
    motions = [np.random.default_rng(0).standard_normal((40, 263)).astype(np.float32)]
    assert torch.allclose(loaded.encode_motion(motions), made.encode_motion(motions), atol=1e-5)
    assert torch.allclose(loaded.encode_text(["a man walks."]), made.encode_text(["a man walks."]), atol=1e-5)
    assert loaded.space().similarity == "euclidean"


def test_lamps_transformer_takes_the_tokenizer_of_its_pretraining_where_no_other_lies_beside_it(lamp):
    folder, _, masked = lamp
    loaded = from_pretrained(folder / "t2m")
    assert torch.allclose(loaded.generate(REQUEST, DECODING)[0], masked.generate(REQUEST, DECODING)[0], atol=1e-5)
    assert loaded.config.attention == "tril_plus_one" and not loaded.config.key_padding


@pytest.mark.parametrize("name, said", [
    ("itm_head.bias", "itm_head.bias is absent"),
    ("Qformer.bert.encoder.layer.0.intermediate.dense.weight", "no Q-Former, or incomplete"),
])  # fmt: skip
def test_what_a_damaged_file_of_lamp_lacks_is_named(lamp, name, said):
    file = lamp[0] / "h3d-qformer.tar"
    content = torch.load(file, weights_only=True)["motion_qformer"]
    write(file, "motion_qformer", {key: value for key, value in content.items() if key != name})
    with pytest.raises(FileError, match=said):
        from_pretrained(file)


def test_a_length_estimator_without_its_first_layer_is_named(tmp_path):
    state = {f"output.{i}.weight": torch.zeros(4, 4) for i in (9, 11)}
    with pytest.raises(FileError, match=r"finest\.tar: no tensor output\.0\.weight"):
        from_pretrained(write(tmp_path / "finest.tar", "estimator", state))
