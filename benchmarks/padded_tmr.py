"""TMR by torch's own transformer layers, every batch padded to its longest motion: what the published recipe computes."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from model.layers import sinusoidal_table
from model.official.tmr import tmr_name
from model.tmr import TMR
from model.tmr_config import TMRConfig


class PaddedEncoder(nn.Module):
    """Outputs (B, 2, C) of the tokens for mean and log variance."""

    def __init__(self, num_inputs: int, config: TMRConfig):
        super().__init__()
        dim = config.latent_dim
        self.projection = nn.Linear(num_inputs, dim)
        self.tokens = nn.Parameter(torch.randn(config.num_tokens, dim))
        layer = nn.TransformerEncoderLayer(dim, config.num_heads, config.ff_size, config.dropout, "gelu", batch_first=True)
        self.seqTransEncoder = nn.TransformerEncoder(layer, config.num_layers)
        self.dropout = nn.Dropout(config.dropout)
        self.register_buffer("positions", sinusoidal_table(config.max_positions, dim), persistent=False)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        count = len(self.tokens)
        x = torch.cat([self.tokens.expand(len(x), -1, -1), self.projection(x)], dim=1)
        x = self.dropout(x + self.positions[: x.shape[1]])
        return self.seqTransEncoder(x, src_key_padding_mask=~F.pad(mask, (count, 0), value=True))[:, :count]


class PaddedDecoder(nn.Module):
    """Motion (B, T, D) from latents (B, C)."""

    def __init__(self, config: TMRConfig):
        super().__init__()
        dim = config.latent_dim
        layer = nn.TransformerDecoderLayer(dim, config.num_heads, config.ff_size, config.dropout, "gelu", batch_first=True)
        self.seqTransDecoder = nn.TransformerDecoder(layer, config.num_layers)
        self.final_layer = nn.Linear(dim, config.features.width)
        self.dropout = nn.Dropout(config.dropout)
        self.register_buffer("positions", sinusoidal_table(config.max_positions, dim), persistent=False)

    def forward(self, latents: Tensor, mask: Tensor) -> Tensor:
        queries = self.dropout(self.positions[: mask.shape[1]].expand(len(latents), -1, -1))
        made = self.final_layer(self.seqTransDecoder(queries, latents[:, None], tgt_key_padding_mask=~mask))
        return made * mask[..., None]


class PaddedTMR(nn.Module):
    """Both encoders and the decoder, with the weights of a model of ours."""

    def __init__(self, ours: TMR):
        super().__init__()
        config = ours.config
        self.text_encoder = PaddedEncoder(config.text_dim, config)
        self.motion_encoder = PaddedEncoder(config.features.width, config)
        self.motion_decoder = PaddedDecoder(config)
        self.load_state_dict({tmr_name(name): value for name, value in ours.networks.state_dict().items()})
