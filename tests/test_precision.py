"""Trained models in other numbers: what is near stays near, whatever the linear layers are held in."""

import pytest
import torch
from torch import nn

from model.capabilities import OWN, Decoding, Request
from model.lsremgm import LSReMGM
from model.lsremgm_config import LSReMGMConfig
from model.precision import BFloat16Linear, Int8Linear, in_numbers
from sample.sample import SampleOptions
from sample.sample import run as sample
from tests.tiny_pgr2m import tiny_base, tiny_refiner
from tests.tiny_tokens import saved

KINDS = {"bf16": BFloat16Linear, "int8": Int8Linear}


@pytest.mark.parametrize("precision", KINDS)
def test_a_linear_layer_in_fewer_bits_makes_nearly_the_same(precision):
    torch.manual_seed(0)
    exact, x = nn.Linear(64, 32), torch.randn(5, 7, 64)
    made = KINDS[precision](exact)
    error = (made(x) - exact(x)).norm() / exact(x).norm()
    assert made(x).dtype == x.dtype and 1e-5 < error < 0.03
    assert torch.allclose(made.weight, exact.weight, atol=2e-3) and torch.allclose(made.bias, exact.bias, atol=2e-3)
    without = KINDS[precision](nn.Linear(64, 32, bias=False))
    assert without.bias is None and without(x).shape == (5, 7, 32)


@pytest.mark.parametrize("precision", KINDS)
def test_a_model_and_what_it_stands_on_are_converted_and_make_motion(precision):
    exact, lighter = tiny_refiner(), in_numbers(tiny_refiner(), precision)
    assert type(lighter.transformer.embedding) is type(lighter.base.transformer.head) is KINDS[precision]
    asked = [Request("a person waves", 24, seed=1), Request("a person walks", 16, seed=2)]
    greedy = Decoding(temperature=0.0)
    assert [made.shape for made in lighter.generate(asked, greedy)] == [made.shape for made in exact.generate(asked, greedy)]
    codes = [model.base.make_ids(asked, greedy) for model in (exact, lighter)]
    same = torch.cat([(one == other).flatten() for one, other in zip(*codes, strict=True)])
    assert same.float().mean() > 0.6  # of up to 18 codes; a token that differs changes those after it


def test_layers_whose_rows_others_take_are_read_as_numbers():
    sizes = {"latent_dim": 16, "ff_size": 16, "num_layers": 1, "num_heads": 2}
    config = LSReMGMConfig(arch="trans_dec", text_dim=384, diffusion_steps=2, **sizes)
    model = in_numbers(LSReMGM(config).eval(), "int8")
    assert model.generate([Request("a person waves", 8)], OWN)[0].isfinite().all()


def test_the_command_takes_it(tmp_path):
    folder = saved(tmp_path / "model", tiny_base())
    for precision in ("fp32", "int8"):
        sample(SampleOptions(text_prompt="a person waves", model_path=folder, motion_length=1, num_repetitions=1, video=False,
                             precision=precision, device="cpu", output_dir=tmp_path / precision))  # fmt: skip
    assert (tmp_path / "int8" / "motions.npz").is_file()
