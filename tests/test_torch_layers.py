"""What networks are timed beside computes the same, on layers of torch."""

import pytest
import torch
from torch import nn

from benchmarks.torch_layers import TorchLayers, with_torch_convolutions, with_torch_layers
from model.pgr2m_transformers import poses_of
from tests.tiny_pgr2m import tiny_base, tiny_pg_tokenizer, tiny_refiner
from tests.tiny_tokens import tiny_tokenizer


@pytest.mark.parametrize("kind", [tiny_base, tiny_refiner])
@torch.no_grad()
def test_transformers_over_poses_are_the_same_on_torchs_layers(kind):
    model, tokenizer = kind(), tiny_pg_tokenizer()
    ids = torch.stack(tokenizer.encode([torch.randn(20, 263).numpy(), torch.randn(20, 263).numpy()]))
    condition = torch.randn(2, 12, 384)
    given = (poses_of(ids), condition)
    if kind is tiny_refiner:
        given = (poses_of(ids), ids[..., 70:], torch.tensor([0, 1]), condition, torch.arange(5) < torch.tensor([[5], [3]]))
    other = with_torch_layers(model.transformer, model.config)
    assert isinstance(other.layers[0], TorchLayers) and isinstance(other.layers[0].encoder, nn.TransformerEncoder)
    ours, theirs = model.transformer(*given), other(*given)
    ours, theirs = (each if kind is tiny_base else each[given[-1]] for each in (ours, theirs))
    assert torch.allclose(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", [tiny_tokenizer, tiny_pg_tokenizer])
@torch.no_grad()
def test_tokenizers_are_the_same_on_torchs_convolutions(kind):
    model, x = kind(), torch.randn(2, 16, 263)
    other = with_torch_convolutions(model.network, model.config)
    assert not any(type(module).__name__ == "TimeConv" for module in other.modules())
    latents = model.network.encoder(x)
    assert torch.allclose(latents, other.encoder(x), atol=1e-5)
    assert torch.allclose(model.network.decoder(latents), other.decoder(latents), atol=1e-5)
