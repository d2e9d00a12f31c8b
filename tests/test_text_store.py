"""A text is read once: by whichever process, thread or run comes to it first."""

import copy
import threading

import pytest
import torch

from model.text_encoders import TextEncoder
from model.text_towers import load_text_encoder

TEXTS = ["a person walks", "someone waves the left hand slowly", "a person walks", "bow"]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def test_features_are_computed_once_and_are_the_same_to_the_bit(monkeypatch):
    first = load_text_encoder("minilm").encode(TEXTS)
    monkeypatch.setattr(TextEncoder, "_compute", lambda *_: pytest.fail("computed again"))
    again = load_text_encoder("minilm")
    found = again.encode(TEXTS)
    assert torch.equal(found.tokens, first.tokens) and torch.equal(found.pooled, first.pooled)
    assert copy.deepcopy(again) is again


def test_threads_that_ask_for_one_text_compute_it_once(monkeypatch):
    asked, compute = [], TextEncoder._compute
    monkeypatch.setattr(TextEncoder, "_compute", lambda self, texts: asked.extend(texts) or compute(self, texts))
    encoder = load_text_encoder("minilm")
    threads = [threading.Thread(target=encoder.encode, args=(TEXTS,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(asked) == sorted(set(TEXTS))


def test_reading_a_language_model_draws_no_random_numbers():
    state = torch.get_rng_state()
    load_text_encoder("minilm").encode(TEXTS)
    assert torch.equal(torch.get_rng_state(), state)


def test_without_a_usable_cache_texts_are_encoded_as_they_come(tmp_path, caplog):
    (tmp_path / "cache").write_text("not a folder")
    assert load_text_encoder("minilm").encode(TEXTS).tokens.shape[0] == 4
    assert "are not usable" in caplog.text
