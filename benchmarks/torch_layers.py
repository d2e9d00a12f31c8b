"""Networks of ours with torch's own layers in the place of ours, of the same weights: what they are timed beside."""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.official.vqvae import tokenizer_name
from model.official.weights import torch_layer_name
from model.pgr2m_networks import PoseRefiner, PoseTransformer
from model.pgr2m_transformer_config import PoseRefinerConfig, PoseTransformerConfig
from model.vqvae_config import TokenizerConfig


class TorchLayers(nn.Module):
    """All layers of a transformer over poses as torch's own transformer, which shares their memory."""

    def __init__(self, layers: nn.ModuleList, config: PoseTransformerConfig | PoseRefinerConfig):
        super().__init__()
        self.causal = layers[0].causal
        with torch.device("meta"):
            layer = nn.TransformerEncoderLayer(config.latent_dim, config.num_heads, config.ff_size, config.dropout, F.gelu,
                                               batch_first=True, norm_first=True)  # fmt: skip
            self.encoder = nn.TransformerEncoder(layer, config.num_layers, enable_nested_tensor=False)
        weights = nn.ModuleDict({"layers": layers}).state_dict()
        state = {torch_layer_name(name, "trans_enc").partition(".")[2]: value for name, value in weights.items()}
        self.encoder.load_state_dict(state, assign=True)

    def forward(self, x: Tensor, keep: Tensor | None = None, first: int | None = None) -> Tensor:
        hidden = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1) if self.causal else None
        return self.encoder(x, hidden, None if keep is None else ~keep, is_causal=self.causal)[:, :first]


def with_torch_layers(network: PoseTransformer | PoseRefiner, config: PoseTransformerConfig | PoseRefinerConfig) -> nn.Module:
    """The same network on torch's layers."""
    return replaced(network, layers=nn.ModuleList([TorchLayers(network.layers, config)]).train(network.training))


class ChannelsFirst(nn.Module):
    """A sequence of torch's convolutions, (B, T, C) outside."""

    def __init__(self, *layers: nn.Module):
        super().__init__()
        self.model = nn.Sequential(*layers)

    def forward(self, x: Tensor, keep: Tensor | None = None) -> Tensor:
        return self.model(x.mT).mT


class Blocks(nn.Module):
    def __init__(self, config: TokenizerConfig):
        super().__init__()
        self.model = nn.Sequential(*(Block(config.width, config.dilation_growth**i) for i in reversed(range(config.depth))))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x)


class Block(nn.Module):
    def __init__(self, width: int, dilation: int):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv1d(width, width, 3, 1, dilation, dilation), nn.Conv1d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


def with_torch_convolutions(network: nn.Module, config: TokenizerConfig) -> nn.Module:
    """A tokenizer's network with the published encoder and decoder, for motions without padding."""
    c, width = config, config.width
    down, up = [], []
    for _ in range(c.num_levels):
        down.append(nn.Sequential(nn.Conv1d(width, width, 4, 2, 1), Blocks(c)))
        up.append(nn.Sequential(Blocks(c), nn.Upsample(scale_factor=2), nn.Conv1d(width, width, 3, 1, 1)))
    ends = nn.Conv1d(c.features.width, width, 3, 1, 1), nn.Conv1d(width, c.code_dim, 3, 1, 1)
    first, smooth = nn.Conv1d(c.code_dim, width, 3, 1, 1), nn.Conv1d(width, width, 3, 1, 1)
    coders = nn.ModuleDict({
        "encoder": ChannelsFirst(ends[0], nn.ReLU(), *down, ends[1]),
        "decoder": ChannelsFirst(first, nn.ReLU(), *up, smooth, nn.ReLU(), nn.Conv1d(width, c.features.width, 3, 1, 1)),
    })  # fmt: skip
    coders.load_state_dict({tokenizer_name(name, c.num_levels): value for name, value in network.state_dict().items()
                            if name.startswith(("encoder.", "decoder."))})  # fmt: skip
    return replaced(network, **dict(coders.items()))


def replaced(network: nn.Module, **modules: nn.Module) -> nn.Module:
    """The same network with other modules of these names."""
    other = copy.copy(network)
    other._modules = {**network._modules, **modules}
    return other
