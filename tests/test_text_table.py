"""The table of text features that training reads instead of asking a language model."""

import copy

import pytest
import torch

from model.text_encoders import TextEncoder
from model.text_encoders import TextFeatures as Features
from model.text_towers import load_text_encoder
from train.text_table import text_table

TEXTS = ["a person walks", "someone waves the left hand slowly", "a person walks", "bow"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def forbid(monkeypatch) -> None:
    def encode(self, texts):
        raise AssertionError(f"asked for {texts}")

    monkeypatch.setattr(TextEncoder, "encode", encode)


def assert_alike(a: Features, b: Features, atol: float) -> None:
    assert torch.equal(a.mask, b.mask)
    torch.testing.assert_close(a.pooled, b.pooled, rtol=0, atol=1e-5)
    torch.testing.assert_close(a.tokens, b.tokens, rtol=0, atol=atol)


def test_the_table_holds_what_the_encoder_says(monkeypatch):
    encoder, table = load_text_encoder("minilm"), text_table("minilm", TEXTS)
    expected = encoder.encode(["bow", *TEXTS[:2]])
    forbid(monkeypatch)
    assert_alike(table.encode(["bow", *TEXTS[:2]]), expected, atol=2e-3)  # tokens are kept in float16
    assert (table.name, table.dim) == ("minilm", 384)


def test_other_texts_go_to_the_encoder():
    table = text_table("minilm", TEXTS)
    asked = ["someone sits", "bow"]
    assert_alike(table.encode(asked), load_text_encoder("minilm").encode(asked), atol=1e-6)


def test_the_table_is_computed_once(monkeypatch):
    first = text_table("minilm", TEXTS).encode(TEXTS)
    monkeypatch.setattr("train.text_table._write", lambda *_: pytest.fail("computed again"))
    again = text_table("minilm", reversed(TEXTS))
    assert torch.equal(again.encode(TEXTS).tokens, first.tokens)
    assert copy.deepcopy(again) is again


def test_pooled_features_alone_need_no_tokens():
    features = text_table("minilm", TEXTS, with_tokens=False).encode(TEXTS)
    assert features.pooled.shape == (4, 384) and features.tokens.shape == (4, 0, 384)


def test_without_a_usable_cache_texts_are_encoded_as_they_come(tmp_path, caplog):
    (tmp_path / "cache").write_text("not a folder")
    table = text_table("minilm", TEXTS)
    assert "is not usable" in caplog.text
    assert table.encode(TEXTS).tokens.shape[0] == 4
