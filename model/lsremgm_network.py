"""LS-ReMGM's network: the MDM denoiser (Tevet et al. 2023) with every published variant behind one configuration, and what
that of `latent` adds to it."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_loaders.edit_masks import TARGET_ROWS, TargetLocation
from model.layers import TransformerLayer, sinusoidal_table
from model.lsremgm_config import LatentConfig, LSReMGMConfig
from model.text_encoders import TextFeatures


class TargetEncoder(nn.Module):
    """Embedding (B, C) of a target location, by one network, one small network per row, or a weighted sum of those.

    The three forms are those of DiP (Tevet et al. 2025): `single`, `split`, `multi`.
    """

    def __init__(self, kind: str, dim: int, num_layers: int = 1):
        super().__init__()
        self.kind = kind
        rows = len(TARGET_ROWS)
        if kind == "split" and dim % rows:
            raise ValueError(f"target_encoder split needs a latent size that is a multiple of {rows}, not {dim}")
        if kind == "single":
            self.networks = nn.ModuleList([self._network(4 * rows, dim, num_layers)])
        elif kind == "split":
            self.networks = nn.ModuleList([self._network(4, dim // rows, num_layers) for _ in TARGET_ROWS])
        else:
            self.networks = nn.ModuleList([self._network(3, dim, 1) for _ in TARGET_ROWS])
            self.row_weights = nn.Parameter(torch.randn(rows))

    @staticmethod
    def _network(inputs: int, dim: int, num_layers: int) -> nn.Sequential:
        layers = [nn.Linear(inputs, dim)]
        for _ in range(num_layers):
            layers += [nn.SiLU(), nn.Linear(dim, dim)]
        return nn.Sequential(*layers)

    def forward(self, target: TargetLocation) -> Tensor:
        valid = target.valid.to(target.values)[..., None]  # (B, 8, 1)
        if self.kind == "multi":
            rows = torch.stack([f(target.values[:, i]) for i, f in enumerate(self.networks)], dim=1)  # (B, 8, C)
            return (rows * valid * self.row_weights.softmax(0)[:, None]).sum(1)  # (B, C)
        given = torch.cat([target.values, valid], dim=-1)  # (B, 8, 4)
        if self.kind == "single":
            return self.networks[0](given.flatten(1))  # (B, C)
        return torch.cat([f(given[:, i]) for i, f in enumerate(self.networks)], dim=-1)  # (B, C)


class MotionDenoiser(nn.Module):
    """Prediction (B, T, D) of the clean motion from a noisy one and its step. Tevet et al. 2023, §3.

    Frames are independent tokens; step and condition form one prefix token (encoder), the memory of a decoder
    (one token, or one per word), or an addition to every frame's features (GRU).
    """

    def __init__(self, config: LSReMGMConfig, num_features: int):
        """num_features: columns of what is denoised."""
        super().__init__()
        self.config = config = config.resolved()
        dim = config.latent_dim
        extra = dim if config.arch == "gru" else 0
        self.input_projection = nn.Linear(num_features + extra, dim)
        self.register_buffer("positions", sinusoidal_table(config.max_positions, dim), persistent=False)
        self.time_mlp = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        if config.condition == "text":
            if not config.text_dim:
                raise ValueError("a model that reads texts needs a text_dim of at least 1")
            self.text_projection = nn.Linear(config.text_dim, dim)
        elif config.condition == "action":
            self.action_table = nn.Parameter(torch.randn(config.num_actions, dim))
        if config.target_encoder != "none":
            self.target_encoder = TargetEncoder(config.target_encoder, dim, config.target_layers)
        self.dropout = nn.Dropout(config.dropout)
        if config.arch == "gru":
            self.gru = nn.GRU(dim, dim, config.num_layers, batch_first=True)
        else:
            self.layers = nn.ModuleList(self.layer() for _ in range(config.num_layers))
        self.output_projection = nn.Linear(dim, num_features)

    @property
    def reads_words(self) -> bool:
        """Whether it reads texts word by word."""
        return self.config.text_memory == "tokens"

    @property
    def reads_pooled(self) -> bool:
        """Whether it looks at texts as a whole."""
        return not self.reads_words

    def layer(self, norm_first: bool = False) -> TransformerLayer:
        """One layer of the transformer."""
        c = self.config
        return TransformerLayer(c.latent_dim, c.num_heads, c.ff_size, c.dropout, cross_attention=c.arch == "trans_dec",
                                norm_first=norm_first)  # fmt: skip

    def forward(self, x: Tensor, t: Tensor, text: TextFeatures | None = None, mask: Tensor | None = None, *,
                action: Tensor | None = None, prefix: Tensor | None = None, target: TargetLocation | None = None,
                drop: Tensor | None = None, drop_target: Tensor | None = None) -> Tensor:
        """Denoised motion (B, T, D) from x (B, T, D) at steps t (B,) of the original, unrespaced schedule.

        `mask` (B, T) is True at real frames; only models with `mask_frames` look at it. `prefix` (B, context, D) is
        clean motion put before x. `drop` and `drop_target` (B,) remove conditions, for guidance and its training.
        Outputs at padded frames mean nothing.
        """
        time = self.time_mlp(self.positions[t])  # (B, C)
        if target is not None and self.config.target_encoder != "none":
            time = time + zero_where(drop_target, self.target_encoder(target))  # (B, C)
        memory, memory_keep = self.condition_tokens(time, text, action, drop)  # (B, M, C), (B, M)
        keep = mask if self.config.mask_frames else None
        if prefix is not None:
            x = torch.cat([prefix, x], dim=1)  # (B, context + T, D)
            if keep is not None:
                keep = torch.cat([keep.new_ones(prefix.shape[:2]), keep], dim=1)  # (B, context + T)
        y = self.trunk(x, time, memory, keep, memory_keep, self.modulated(time, text, drop))  # (B, context + T, C)
        if prefix is not None:
            y = y[:, prefix.shape[1]:]  # (B, T, C)
        return self.output_projection(y)  # (B, T, D)

    def modulated(self, time: Tensor, text: TextFeatures | None, drop: Tensor | None) -> Tensor | None:
        """Shifts, scales and gates (B, layers, 9, C) of the layers, in networks that have such."""
        return None

    def condition_tokens(self, time: Tensor, text: TextFeatures | None, action: Tensor | None,
                         drop: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Condition tokens (B, M, C) with the step added to each, and which of them are real (B, M) or None.

        A dropped text is a zero vector *before* its projection, so that the projection's bias remains.
        """
        batch = time.shape[0]
        if self.config.condition == "text":
            keep = None
            if text is None:
                given = time.new_zeros(batch, 1, self.config.text_dim)
            elif self.reads_words:
                given, keep = text.tokens.expand(batch, -1, -1), text.mask.expand(batch, -1)  # (B, L, C)
            else:
                given = text.pooled[:, None].expand(batch, -1, -1)  # (B, 1, C)
            given = zero_where(drop, given.to(self.text_projection.weight.dtype))
            return self.text_projection(given) + time[:, None], keep
        if self.config.condition == "action" and action is not None:
            return (zero_where(drop, self.action_table[action]) + time)[:, None], None
        return time[:, None], None

    def trunk(self, x: Tensor, time: Tensor, memory: Tensor, keep: Tensor | None, memory_keep: Tensor | None,
              modulation: Tensor | None = None, added: Tensor | None = None) -> Tensor:
        """Hidden frames (B, T, C) before the output projection. added (B, T, C): to the frames' tokens of a transformer."""
        arch = self.config.arch
        if arch == "gru":
            x = torch.cat([x, memory.expand(-1, x.shape[1], -1)], dim=-1)  # (B, T, D + C)
            y = self.place(self.input_projection(x))  # (B, T, C)
            if self.config.gru_over == "batch":
                return self.gru(y.transpose(0, 1))[0].transpose(0, 1)
            return self.gru(y)[0]
        y = self.input_projection(x)  # (B, T, C)
        if added is not None:
            y = y + added
        if arch == "trans_enc":
            token = memory
        else:
            token = {"none": None, "time": time[:, None], "time+text": memory}[self.config.decoder_token]
        if token is not None:
            y = torch.cat([token, y], dim=1)  # (B, 1 + T, C)
            if keep is not None:
                keep = torch.cat([keep.new_ones(keep.shape[0], 1), keep], dim=1)  # (B, 1 + T)
        y = self.place(y)
        for i, layer in enumerate(self.layers):
            given = (None, None) if arch == "trans_enc" else (memory, memory_keep)
            y = layer(y, keep, *given, modulation=None if modulation is None else modulation[:, i])
        return y if token is None else y[:, token.shape[1]:]

    def place(self, y: Tensor) -> Tensor:
        """Tokens with their positions added, (B, N, C)."""
        return self.dropout(y + self.positions[: y.shape[1]].to(y.dtype))


class Modulation(nn.Module):
    """Shifts, scales and gates (B, layers, 9, C) of all layers from the step and the text as a whole.

    One projection for all layers and an offset per layer, as in PixArt-α (Chen et al. 2023, §2.3); without effect at
    first. A dropped text is a zero vector.
    """

    def __init__(self, config: LatentConfig):
        super().__init__()
        dim, vectors = config.latent_dim, TransformerLayer.MODULATED
        self.text_dim = config.text_dim if config.condition == "text" else 0
        if self.text_dim:
            self.text_projection = nn.Linear(self.text_dim, dim)
        self.projection = nn.Linear(dim, vectors * dim)
        nn.init.zeros_(self.projection.weight)
        nn.init.zeros_(self.projection.bias)
        self.layer_offsets = nn.Parameter(torch.zeros(config.num_layers, vectors, dim))

    def forward(self, time: Tensor, text: TextFeatures | None, drop: Tensor | None) -> Tensor:
        given = time  # (B, C)
        if self.text_dim:
            pooled = time.new_zeros(1, self.text_dim) if text is None else F.layer_norm(text.pooled, (self.text_dim,))
            pooled = zero_where(drop, pooled.to(time.dtype).expand(len(time), -1))  # (B, text_dim)
            given = given + self.text_projection(pooled)
        shared = self.projection(F.silu(given))  # (B, 9 C)
        return shared.unflatten(-1, (1, -1, given.shape[-1])) + self.layer_offsets


class OutputSkip(nn.Module):
    """Prediction (B, T, D) out of the network's own one and its noisy input, per channel in shares that the step says.

    At little noise the input is nearly right: what a network must not forget of it, it need not carry through all
    layers. The shares are learned (Karras et al. 2022, §5, fixes them) and at first leave the network's prediction as it is.
    """

    def __init__(self, dim: int, num_features: int):
        super().__init__()
        self.shares = nn.Linear(dim, 2 * num_features)
        nn.init.zeros_(self.shares.weight)
        nn.init.zeros_(self.shares.bias)

    def forward(self, y: Tensor, x: Tensor, time: Tensor) -> Tensor:
        own, skipped = self.shares(F.silu(time))[:, None].chunk(2, dim=-1)  # (B, 1, D)
        return (1 + own) * y + skipped * x


class LatentDenoiser(MotionDenoiser):
    """The denoiser with layers that normalise first, modulation and output skip, each if its configuration says so."""

    def __init__(self, config: LatentConfig, num_features: int):
        super().__init__(config, num_features)
        dim = config.latent_dim
        if config.norm_first:
            self.final_norm = nn.LayerNorm(dim)
        if config.modulation:
            self.modulation = Modulation(self.config)
        if config.output_skip:
            self.output_skip = OutputSkip(dim, num_features)

    @property
    def reads_pooled(self) -> bool:
        """Whether it looks at texts as a whole: for the modulation of its layers too."""
        return super().reads_pooled or self.config.modulation

    def layer(self) -> TransformerLayer:
        """A layer that normalises first, if the configuration says so."""
        return super().layer(self.config.norm_first)

    def forward(self, x: Tensor, t: Tensor, *conditions, **given) -> Tensor:
        y = super().forward(x, t, *conditions, **given)
        return self.output_skip(y, x, self.time_mlp(self.positions[t])) if self.config.output_skip else y

    def modulated(self, time: Tensor, text: TextFeatures | None, drop: Tensor | None) -> Tensor | None:
        """Shifts, scales and gates (B, layers, 9, C) of the layers."""
        return self.modulation(time, text, drop) if self.config.modulation else None

    def trunk(self, *given) -> Tensor:
        """Hidden frames (B, T, C) before the output projection."""
        y = super().trunk(*given)
        return self.final_norm(y) if self.config.norm_first else y


def zero_where(drop: Tensor | None, values: Tensor) -> Tensor:
    """`values` (B, ...) with the samples at which `drop` (B,) is True set to zero."""
    if drop is None:
        return values
    return values.masked_fill(drop.view(-1, *[1] * (values.dim() - 1)), 0)
