"""LS-ReMGM text-to-motion network: the MDM denoiser (Tevet et al. 2023) with every variant behind one configuration.

`model/lsremgm_system.py` holds the system's `build`, `loss` and `generate`.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from data_loaders.edit_masks import TARGET_ROWS, TargetLocation
from data_loaders.features import Features
from model.layers import TransformerLayer, sinusoidal_table
from model.motion_autoencoder import AutoencoderConfig
from model.text_encoders import TextFeatures
from protos.bounds import CHANNELS, FPS, FRAMES, GUIDANCE, LAYERS, SHARE, WEIGHT, Range, check_bounds


@dataclass(frozen=True)
class LSReMGMConfig:
    """What the network is, what it denoises and how it was trained. Defaults: the 50-step HumanML3D encoder."""

    # network
    # columns of one frame: 263 humanml, 251 kit, 150 action-to-motion, or latent channels
    num_features: Annotated[int, CHANNELS] = 263
    arch: Literal["trans_enc", "trans_dec", "gru"] = "trans_enc"
    latent_dim: Annotated[int, CHANNELS] = 512
    ff_size: Annotated[int, Range(1, 65_536)] = 1024
    num_layers: Annotated[int, LAYERS] = 8
    num_heads: Annotated[int, Range(1, 256)] = 4
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.1
    norm_first: bool = False
    modulation: bool = False  # step and whole text also shift, scale and gate every branch of every layer
    output_skip: bool = False  # the prediction also takes a share, learned per step and channel, of the noisy input
    max_positions: Annotated[int, Range(2, 100_000)] = 5000
    gru_over: Literal["time", "batch"] = "time"  # "batch" repeats the original's axis slip, for its weights only
    # conditions
    condition: Literal["text", "action", "none"] = "text"
    text_encoder: str = "clip-b32"
    text_dim: Annotated[int, Range(0, 16_384)] = 512
    # 0: what the encoder can read; published models on CLIP were trained with 22
    text_max_tokens: Annotated[int, Range(0, 10_000)] = 0
    text_memory: Literal["pooled", "tokens"] = "pooled"
    decoder_token: Literal["none", "time", "time+text"] = "none"
    num_actions: Annotated[int, Range(0, 100_000)] = 0
    cond_mask_prob: Annotated[float, SHARE] = 0.1
    text_noise: Annotated[float, Range(0, 100)] = 0.0  # in training: noise on the text's features, relative to their size
    word_drop: Annotated[float, SHARE] = 0.0  # in training: share of words that are left out
    mask_frames: bool = False
    context_len: Annotated[int, Range(0, 100_000)] = 0
    pred_len: Annotated[int, Range(0, 100_000)] = 0
    target_encoder: Literal["none", "single", "split", "multi"] = "none"
    target_layers: Annotated[int, Range(0, 64)] = 1
    # diffusion
    diffusion_steps: Annotated[int, Range(2, 10_000)] = 50
    noise_schedule: Literal["cosine", "linear"] = "cosine"
    sigma_small: bool = True
    prediction: Literal["x0", "eps", "v"] = "x0"
    min_snr_gamma: Annotated[float, WEIGHT] = 0.0  # 0: every step weighs the same; else Hang et al. 2023, 5 in the paper
    snr_power: Annotated[float, Range(-10, 10)] = 1.0  # of those weights, see diffusion.losses.snr_weights
    snr_floor: Annotated[float, SHARE] = 0.0
    calm_power: Annotated[float, Range(-10, 10)] = 0.0
    # sampling, unless the user asks for another way
    guidance_scale: Annotated[float, GUIDANCE] = 2.5
    sampler: Literal["ddpm", "ddim", "plms", "dpmpp"] = "ddpm"
    num_steps: Annotated[int, Range(2, 10_000)] | None = None  # None: all
    # sigma in frames of a Gaussian over the sampled features; 0: as published, none
    smoothing: Annotated[float, Range(0, 1000)] = 0.0
    # loss weights
    lambda_vel: Annotated[float, WEIGHT] = 0.0
    lambda_rcxyz: Annotated[float, WEIGHT] = 0.0
    lambda_fc: Annotated[float, WEIGHT] = 0.0
    lambda_target_loc: Annotated[float, WEIGHT] = 0.0
    # motion
    dataset: str = "humanml"
    skeleton: str = "humanml"
    fps: Annotated[float, FPS] = 20.0
    heading: Literal["published", "continuous"] = "published"
    features: Literal["humanml", "smpl_rot6d"] = "humanml"
    max_frames: Annotated[int, FRAMES] = 196
    autoencoder: AutoencoderConfig | None = None  # denoise its latents instead of frames

    @property
    def motion_features(self) -> Features:
        return Features(self.skeleton, self.fps, self.heading, self.features)

    def __post_init__(self):
        check_bounds(self)
        if self.arch != "gru" and self.latent_dim % self.num_heads:
            raise ValueError(f"latent size {self.latent_dim} is not a multiple of {self.num_heads} attention heads")
        if self.diffusion_steps > self.max_positions:
            raise ValueError(f"diffusion_steps {self.diffusion_steps}: expected at most max_positions, {self.max_positions}")
        if self.num_steps and self.num_steps > self.diffusion_steps:
            raise ValueError(f"num_steps {self.num_steps}: expected at most diffusion_steps, {self.diffusion_steps}")
        if self.condition == "text" and not self.text_dim:
            raise ValueError("a model that reads texts needs a text_dim of at least 1")
        if self.autoencoder and self.num_features != self.autoencoder.latent_channels:
            raise ValueError(f"num_features is {self.num_features}, the autoencoder's latents have "
                             f"{self.autoencoder.latent_channels} channels")
        if self.text_memory == "tokens" and self.arch != "trans_dec":
            raise ValueError(f"word tokens need arch trans_dec, not {self.arch}")
        if self.decoder_token != "none" and self.arch != "trans_dec":
            raise ValueError(f"decoder_token {self.decoder_token} needs arch trans_dec, not {self.arch}")
        if self.modulation and (self.arch == "gru" or not self.norm_first):
            raise ValueError("modulation works on transformer layers that normalise first (norm_first)")
        if self.condition == "action" and self.num_actions < 1:
            raise ValueError("an action-conditioned model needs num_actions of at least 1")
        if self.context_len and self.pred_len < 1:
            raise ValueError("a model with a prefix (context_len) needs pred_len of at least 1")
        if self.context_len and self.autoencoder:
            raise ValueError("a prefix (context_len) is of frames: a model in the latents of an autoencoder cannot have one")

    @property
    def reads_text(self) -> bool:
        return self.condition == "text"

    @property
    def own_guidance(self) -> float | None:
        """The guidance scale; None for a model that never learned to do without its condition, or has none."""
        return None if self.condition == "none" or self.cond_mask_prob == 0 else self.guidance_scale


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


class Modulation(nn.Module):
    """Shifts, scales and gates (B, layers, 9, C) of all layers from the step and the text as a whole.

    One projection for all layers and an offset per layer, as in PixArt-α (Chen et al. 2023, §2.3); without effect at
    first. A dropped text is a zero vector.
    """

    def __init__(self, config: LSReMGMConfig):
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


class MotionDenoiser(nn.Module):
    """Prediction (B, T, D) of the clean motion from a noisy one and its step. Tevet et al. 2023, §3.

    Frames are independent tokens; step and condition form one prefix token (encoder), the memory of a decoder
    (one token, or one per word), or an addition to every frame's features (GRU).
    """

    def __init__(self, config: LSReMGMConfig):
        super().__init__()
        self.config = config
        dim = config.latent_dim
        extra = dim if config.arch == "gru" else 0
        self.input_projection = nn.Linear(config.num_features + extra, dim)
        self.register_buffer("positions", sinusoidal_table(config.max_positions, dim), persistent=False)
        self.time_mlp = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        if config.condition == "text":
            self.text_projection = nn.Linear(config.text_dim, dim)
        elif config.condition == "action":
            self.action_table = nn.Parameter(torch.randn(config.num_actions, dim))
        if config.target_encoder != "none":
            self.target_encoder = TargetEncoder(config.target_encoder, dim, config.target_layers)
        self.dropout = nn.Dropout(config.dropout)
        if config.arch == "gru":
            self.gru = nn.GRU(dim, dim, config.num_layers, batch_first=True)
        else:
            self.layers = nn.ModuleList(
                TransformerLayer(dim, config.num_heads, config.ff_size, config.dropout,
                                 cross_attention=config.arch == "trans_dec", norm_first=config.norm_first)
                for _ in range(config.num_layers))
            self.final_norm = nn.LayerNorm(dim) if config.norm_first else nn.Identity()
        if config.modulation:
            self.modulation = Modulation(config)
        self.output_projection = nn.Linear(dim, config.num_features)
        if config.output_skip:
            self.output_skip = OutputSkip(dim, config.num_features)

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
        noisy = x
        if prefix is not None:
            x = torch.cat([prefix, x], dim=1)  # (B, context + T, D)
            if keep is not None:
                keep = torch.cat([keep.new_ones(prefix.shape[:2]), keep], dim=1)  # (B, context + T)
        modulation = self.modulation(time, text, drop) if self.config.modulation else None  # (B, layers, 9, C)
        y = self.trunk(x, time, memory, keep, memory_keep, modulation)  # (B, context + T, C)
        if prefix is not None:
            y = y[:, prefix.shape[1]:]  # (B, T, C)
        y = self.output_projection(y)  # (B, T, D)
        return self.output_skip(y, noisy, time) if self.config.output_skip else y

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
            elif self.config.text_memory == "tokens":
                given, keep = text.tokens.expand(batch, -1, -1), text.mask.expand(batch, -1)  # (B, L, C)
            else:
                given = text.pooled[:, None].expand(batch, -1, -1)  # (B, 1, C)
            given = zero_where(drop, given.to(self.text_projection.weight.dtype))
            return self.text_projection(given) + time[:, None], keep
        if self.config.condition == "action" and action is not None:
            return (zero_where(drop, self.action_table[action]) + time)[:, None], None
        return time[:, None], None

    def trunk(self, x: Tensor, time: Tensor, memory: Tensor, keep: Tensor | None, memory_keep: Tensor | None,
              modulation: Tensor | None = None) -> Tensor:
        """Hidden frames (B, T, C) before the output projection."""
        arch = self.config.arch
        if arch == "gru":
            x = torch.cat([x, memory.expand(-1, x.shape[1], -1)], dim=-1)  # (B, T, D + C)
            y = self.place(self.input_projection(x))  # (B, T, C)
            if self.config.gru_over == "batch":
                return self.gru(y.transpose(0, 1))[0].transpose(0, 1)
            return self.gru(y)[0]
        y = self.input_projection(x)  # (B, T, C)
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
        y = self.final_norm(y)
        return y if token is None else y[:, token.shape[1]:]

    def place(self, y: Tensor) -> Tensor:
        """Tokens with their positions added, (B, N, C)."""
        return self.dropout(y + self.positions[: y.shape[1]].to(y.dtype))


def zero_where(drop: Tensor | None, values: Tensor) -> Tensor:
    """`values` (B, ...) with the samples at which `drop` (B,) is True set to zero."""
    if drop is None:
        return values
    return values.masked_fill(drop.view(-1, *[1] * (values.dim() - 1)), 0)
