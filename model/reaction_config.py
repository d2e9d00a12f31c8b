"""The settings of the reaction model: the flags of `train.train_reaction`, the config.json of its checkpoints, and the networks'
plan. What it shares with LS-ReMGM it has from there; what it adds follows the paper (LS-ReMGM, IEEE TMM 2025) where that says it.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

from data_loaders.features import Features
from model.capabilities import Guidance
from model.in2in_config import SHORT_COURSE, TWO_PEOPLE, InteractionTerms, Patches
from model.lsremgm_config import LSReMGMConfig
from protos.flags import CHANNELS, FRAMES, GUIDANCE, LAYERS, SHARE, WEIGHT, Range, decided, with_defaults

PIECE = 4  # frames of a piece, unless they are said
PARTS = ("semantics", "atomic_actions", "regularisation", "alignment", "discrimination")  # that may be left out
SEMANTIC_TOKENS = 165  # numbers of a frame (data_loaders/motion_semantics.py)


@dataclass(frozen=True, kw_only=True)
class Semantics:
    """What is told of an action beside its motion"""

    semantics: bool = True
    """Tell how the body of the one who acts is bent, turned and moving: quantised tokens of every frame."""
    atomic_actions: bool = True
    """With --semantics: tell too how near each moment is to those of a codebook, fitted to the training data."""
    semantic_levels: Annotated[int, Range(2, 65_536)] = 512
    """Levels of a token."""
    semantic_delta: bool = False
    """Tell by how many levels tokens change from frame to frame in place of the levels."""
    num_atomic_actions: Annotated[int, Range(1, 4096)] = 128
    """Entries of the codebook."""
    semantic_dim: Annotated[int, CHANNELS] = 512
    """Channels of what is made of both."""


@dataclass(frozen=True, kw_only=True)
class Encoders:
    """Encoders of action and reaction, which are alike"""

    encoder_dim: Annotated[int, CHANNELS] = 256
    """Channels, and those of the latent."""
    encoder_layers: Annotated[int, LAYERS] = 4
    """Layers of each."""
    encoder_heads: Annotated[int, Range(1, 256)] = 4
    """Attention heads."""
    encoder_ff_size: Annotated[int, Range(1, 65_536)] = 1024
    """Channels of the feed-forward layers."""


@dataclass(frozen=True, kw_only=True)
class LatentTerms:
    """Losses on latents and semantics; the first three may be left out, to see what each is worth"""

    regularisation: bool = True
    """Keep both latents near the unit Gaussian."""
    alignment: bool = True
    """Bring the latents of an action and of its reaction together."""
    discrimination: bool = True
    """Keep the latents of different interactions apart."""
    lambda_regularisation: Annotated[float, WEIGHT] = 1e-3
    """Weight of the first."""
    lambda_alignment: Annotated[float, WEIGHT] = 1e-2
    """Weight of the second."""
    lambda_discrimination: Annotated[float, WEIGHT] = 0.05
    """Weight of the third."""
    temperature: Annotated[float, Range(0, 100, above=True)] = 0.1
    """Temperature of the third."""
    alike_above: Annotated[float, Range(-1, 1)] = 0.9
    """Actions whose mean tokens have a cosine above this are not told apart by the third."""
    lambda_semantics: Annotated[float, WEIGHT] = 0.1
    """Weight of telling the reaction's own tokens and atomic actions."""
    latent_rise: Annotated[float, SHARE] = 0.2
    """Share of the training over which the reaction is made ever more often from the action's latent, as in sampling, at last in
    half of all steps; before from its own."""


@dataclass(frozen=True, kw_only=True)
class ReactionStrengths:
    """Sampling of reactions, unless the user asks for another way"""

    guidance_reaction: Annotated[float, GUIDANCE] = 1.5
    """Strength by which the action is followed; --guidance_scale is that of a text."""
    latent_temperature: Annotated[float, Range(0, 100)] = 1.0
    """Spread of the latents that are drawn about an action's; 0 always takes their mean."""


@dataclass(frozen=True, kw_only=True)
class Online:
    """Reactions piece by piece, while the action goes on"""

    context_len: Annotated[int, Range(0, 1000)] = 0
    """Frames of both people before a piece that are read to make it; 0: a reaction is made as a whole, of the whole action."""
    pred_len: Annotated[int, Range(0, 1000)] = 0
    """Frames of a piece; of the action the first of them is read too (0: 4)."""
    rollout: Annotated[int, Range(1, 64)] = 4
    """Pieces of a training sample, any of which is learnt, after the model's own ones before it."""
    start_share: Annotated[float, SHARE] = 0.2
    """How often a piece is learnt as one near the start, before which less than --context_len frames are known."""
    objective: Literal["diffusion", "meanflow"] = "diffusion"
    """What is learnt: to denoise frames, or the average velocity by which a latent of --autoencoder gets from noise to data in a
    step or a few (MeanFlow, Geng et al. 2025), on which guidance works in sampling as on a denoiser."""
    instant_share: Annotated[float, SHARE] = 0.75
    """With --objective meanflow: share of the samples that learn the velocity at a moment in place of an average over time."""


_OF_OTHERS = {  # settings of LS-ReMGM that a reaction has no use for
    "target_encoder": "none", "target_layers": 1, "lambda_vel": 0.0, "lambda_rcxyz": 0.0,
    "lambda_fc": 0.0, "lambda_target_loc": 0.0, "mask_frames": True,
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
@with_defaults(diffusion_steps=50, latest_step=34, lambda_joint_affinity=0.0,
               **{name: decided(value) for name, value in _OF_OTHERS.items()})  # fmt: skip
class ReactionConfig(ReactionStrengths, Online, InteractionTerms, LatentTerms, Encoders, Semantics, Patches, LSReMGMConfig):
    """What is set otherwise than in LS-ReMGM"""

    arch: Literal["auto", "trans_enc", "trans_dec"] = "auto"
    """Denoiser; auto reads texts word by word (trans_dec), with clip as one vector (trans_enc)."""
    condition: Literal["text", "none"] = "text"
    """What is asked for beside the action: a text, which may be absent, or nothing."""
    features: Features = decided(TWO_PEOPLE)
    dataset: str = decided("interhuman")
    max_frames: Annotated[int, FRAMES] = decided(299)

    def __post_init__(self):
        super().__post_init__()
        if self.encoder_dim % 2 or self.encoder_dim % self.encoder_heads:
            raise ValueError(f"encoder_dim {self.encoder_dim} must be even and a multiple of encoder_heads {self.encoder_heads}")
        read = self.context_len + self.pred_len if self.online else self.max_frames
        if read + 2 > self.max_positions:
            frames = f"context_len + pred_len {read}" if self.online else f"max_frames {read}"
            raise ValueError(f"max_positions {self.max_positions}: too few for {frames} and two tokens more")
        if self.online and self.pred_len and self.context_len % self.pred_len:
            raise ValueError(f"context_len {self.context_len} must be a multiple of pred_len {self.pred_len}")
        if self.online and (self.patch > 1 or self.about_pelvis or self.joints_only):
            raise ValueError("patch, about_pelvis and joints_only are of reactions made as a whole, not with context_len")
        if self.in_latents and not self.online:
            raise ValueError("objective meanflow makes reactions piece by piece: it needs a context_len")

    @property
    def online(self) -> bool:
        """Whether reactions are made piece by piece."""
        return self.context_len > 0

    @property
    def in_latents(self) -> bool:
        """Whether what is made are latents of an autoencoder."""
        return self.objective == "meanflow"

    def resolved(self) -> Self:
        """With what `auto`, the short names and 0 stand for."""
        return super().resolved() if self.pred_len or not self.online else replace(self, pred_len=PIECE).resolved()

    @property
    def left_out(self) -> tuple[str, ...]:
        """The parts that it is to do without."""
        return tuple(part for part in PARTS if not getattr(self, part))

    @property
    def tells_actions(self) -> bool:
        """Whether atomic actions are told."""
        return self.semantics and self.atomic_actions

    @property
    def num_semantics(self) -> int:
        """Numbers (tokens, atomic actions) that are told of a frame; 0 for none."""
        return (SEMANTIC_TOKENS + self.num_atomic_actions * self.atomic_actions) * self.semantics

    @property
    def guidance(self) -> Guidance:
        """Its own strengths, by a text and by the action."""
        return Guidance(together=self.guidance_scale, action=self.guidance_reaction)


SIZES = {
    "latent_dim": 192, "ff_size": 384, "num_layers": 4, "encoder_dim": 96, "encoder_layers": 2, "encoder_ff_size": 256,
    "semantic_dim": 128,
}  # fmt: skip
ONLINE = SIZES | {
    "num_layers": 3, "context_len": 20, "pred_len": 4, "objective": "meanflow", "sampling_steps": 1, "guidance_reaction": 1.0,
}  # fmt: skip
PRESETS = {
    "published": {},
    "small": SIZES | SHORT_COURSE | {
        "window": 180, "batch_size": 16, "num_steps": 5000, "patch": 4, "about_pelvis": True, "joints_only": True,
        "lambda_velocity": 100.0, "lambda_bone_length": 100.0,
    },
    "online": ONLINE | SHORT_COURSE | {"batch_size": 32, "lr": 3e-4, "num_steps": 10_000},
}
