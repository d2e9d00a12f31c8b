"""Transformer layers that compute less than torch's: the same outcome."""

import pytest
import torch
from torch import nn

from model.layers import Attention, TransformerLayer


@pytest.mark.parametrize("norm_first", [False, True])
def test_the_first_outputs_alone_are_those_of_the_whole_layer(norm_first):
    layer = TransformerLayer(16, 4, 32, norm_first=norm_first).eval()
    x, keep = torch.randn(3, 7, 16), torch.arange(7) < torch.tensor([[7], [4], [2]])
    torch.testing.assert_close(layer(x, keep, first=2), layer(x, keep)[:, :2])


def test_attention_to_a_single_memory_is_that_of_torch_in_value_gradient_and_mean_of_dropout():
    torch.manual_seed(0)
    ours, theirs = Attention(16, 4, dropout=0.3), nn.MultiheadAttention(16, 4, dropout=0.3, batch_first=True)
    nn.init.normal_(ours.out.bias)
    theirs.load_state_dict({"in_proj_weight": ours.qkv.weight, "in_proj_bias": ours.qkv.bias, "out_proj.weight": ours.out.weight,
                            "out_proj.bias": ours.out.bias})  # fmt: skip
    x, memory = torch.randn(2, 5, 16), torch.randn(2, 1, 16)
    value = ours.eval()(x, memory)
    expected = theirs.eval()(x, memory, memory)[0]
    torch.testing.assert_close(value, expected)
    value.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(ours.qkv.weight.grad, theirs.in_proj_weight.grad, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        dropped = ours.train()(x, memory)
        assert not torch.equal(dropped[:, 0], dropped[:, 1])  # heads are dropped query by query
        many = ours(x[:1, :1].expand(-1, 40_000, -1), memory[:1])[0]
        reference = theirs.train()(x[:1, :1].expand(-1, 40_000, -1), memory[:1], memory[:1])[0][0]
    torch.testing.assert_close(many.mean(0), value[0, 0], rtol=0, atol=0.02)
    torch.testing.assert_close(many.std(0), reference.std(0), rtol=0.03, atol=1e-3)
