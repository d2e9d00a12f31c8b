"""Trained models in other numbers than float32: the matrices of their linear layers, which are most of what is read to make one
token after another, in bfloat16 or in 8 bits.
"""

import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.capabilities import Precision
from model.model import Model

LEVELS = 127  # on either side of 0 in 8 bits


class BFloat16Linear(nn.Module):
    """A linear layer that multiplies in bfloat16; what enters and leaves keeps its kind."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.register_buffer("matrix", linear.weight.detach().bfloat16())
        self.register_buffer("offset", None if linear.bias is None else linear.bias.detach().bfloat16())

    @property
    def weight(self) -> Tensor:
        """For those who take rows of it."""
        return self.matrix.float()

    @property
    def bias(self) -> Tensor | None:
        return None if self.offset is None else self.offset.float()

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.bfloat16(), self.matrix, self.offset).to(x.dtype)


class Int8Linear(nn.Module):
    """A linear layer of 8 bits a weight, each output with a scale of its own; what enters is brought to 8 bits call by call, by
    torch's dynamic quantisation. On a CPU.
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        weight = linear.weight.detach().float().cpu()
        scales = (weight.abs().amax(1) / LEVELS).clamp(min=torch.finfo(torch.float32).tiny)
        with warnings.catch_warnings():  # its tensors of 8 bits are to be replaced by others in a later torch
            warnings.filterwarnings("ignore", "torch.quantize_per_tensor, torch.quantize_per_channel")
            quantised = torch.quantize_per_channel(weight, scales, torch.zeros_like(scales, dtype=torch.long), 0, torch.qint8)
        self.packed = torch.ops.quantized.linear_prepack(quantised, None if linear.bias is None else linear.bias.detach().cpu())

    @property
    def weight(self) -> Tensor:
        """For those who take rows of it."""
        return torch.ops.quantized.linear_unpack(self.packed)[0].dequantize()

    @property
    def bias(self) -> Tensor | None:
        return torch.ops.quantized.linear_unpack(self.packed)[1]

    def forward(self, x: Tensor) -> Tensor:
        # 7 bits of what enters: without VNNI sums of products of 8 bits overflow
        return torch.ops.quantized.linear_dynamic(x.float(), self.packed, reduce_range=True).to(x.dtype)


def in_numbers(model: Model, precision: Precision) -> Model:
    """The model itself, to sample from, its linear layers and those of its parts in such numbers. ValueError for 8 bits beside a
    CPU.
    """
    if precision == "fp32":
        return model
    if precision == "int8" and model.device.type != "cpu":
        raise ValueError("--precision int8 is computed on a CPU: give --device cpu, or --precision bf16")
    kind = BFloat16Linear if precision == "bf16" else Int8Linear
    for module in list(model.networks.modules()):
        for name, child in module.named_children():
            if type(child) is nn.Linear:
                setattr(module, name, kind(child))
    for part in model.parts.values():
        in_numbers(part, precision)
    return model
