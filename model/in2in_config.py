"""The settings of InterGen, in2IN, its one-person prior, and DualMDM: flags of `train.train_in2in`, config.json of their
checkpoints, and the networks' plan.

Defaults are the published ones (Liang et al. 2024; Ruiz-Ponce et al. 2024), but for the text encoder that is embedded here.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from data_loaders.features import Features
from model.capabilities import Guidance
from model.lsremgm_config import Noising, SamplingDefaults, Size
from protos.flags import CHANNELS, FRAMES, GUIDANCE, LAYERS, SHARE, WEIGHT, Bounded, Range, decided, with_defaults

TWO_PEOPLE, ONE_PERSON = Features(kind="interhuman", fps=30.0), Features(kind="interhuman_person", fps=20.0)
# Strength by all texts together, by the interaction text alone, by the individual texts alone
PUBLISHED_GUIDANCE = {"intergen": (3.5, 0.0, 0.0), "in2in": (3.0, 3.0, 1.0), "individual": (3.5, 0.0, 0.0)}


@dataclass(frozen=True, kw_only=True)
@with_defaults(latent_dim=1024, ff_size=2048, num_heads=8)
class Network(Size):
    """Network of the denoiser"""

    mode: Literal["interaction", "individual"] = "interaction"
    """Two people who attend to each other, or one person alone."""
    individual_texts: bool = True
    """Of two people: read a text about each beside the one about both (in2IN); else that one only (InterGen)."""


@dataclass(frozen=True, kw_only=True)
class Patches:
    """What lets few recordings and little computing do; nothing of it is published"""

    patch: Annotated[int, Range(1, 64)] = 1
    """Frames of a token; of several, convolutions over frames make them go on from one token to the next."""
    fine_width: Annotated[int, CHANNELS] = 96
    """Channels of these convolutions."""
    about_pelvis: bool = False
    """Tell where joints are, and how fast, from the own pelvis, whose place and speed in the world alone stay: what a body does
    is then told alike wherever it stands, and is not lost in the spread of places."""
    joints_only: bool = False
    """Make the places of the joints alone, from which velocities, rotations and contacts follow: a narrow network need not carry
    what is said four times."""

    @property
    def num_columns(self) -> int:
        """How many of a person's features are made: the first ones."""
        return self.features.read_columns if self.joints_only else self.features.width


@dataclass(frozen=True, kw_only=True)
class FewRecordings(Patches):
    """What lets few recordings and little computing do; nothing of it is published"""

    prior_rank: Annotated[int, Range(0, 1024)] = 0
    """Of two people made of a prior (--prior), whose weights stay: rank of what is added to its projections (LoRA), so that two
    need not move as people alone do; 0: nothing is, only what reads the partner is learned."""
    tell_first: bool = False
    """Of two people: tell the network who comes first, who starts at the origin and faces +Z. As published it cannot tell
    them apart but by their texts, and has to settle who stands where by itself."""
    body_losses: bool = False
    """Of one person: add the losses on velocities, bones and planted feet, as of each of two people."""


@dataclass(frozen=True, kw_only=True)
class Texts:
    """What motion is made for"""

    text_encoder: str = "minilm"
    """minilm, or another name in model/text_towers.py, whose word states a small transformer reads."""
    text_layers: Annotated[int, LAYERS] = 2
    """Layers of that transformer."""
    text_heads: Annotated[int, Range(1, 256)] = 8
    """Its attention heads."""
    text_ff_size: Annotated[int, Range(1, 65_536)] = 2048
    """Channels of its feed-forward layers."""
    cond_mask_prob: Annotated[float, SHARE] = 0.1
    """How often all texts are left out, for classifier-free guidance; 0 makes a model without guidance."""
    role_mask_prob: Annotated[float, SHARE] = 0.0
    """How often the interaction text alone is left out, and how often the individual ones are: guidance asks for that, published
    training never shows it."""
    text_dim: Annotated[int, Range(0, 16_384)] = decided(0)
    text_padded: bool = decided(False)  # published networks read what pads a text in CLIP too


@dataclass(frozen=True, kw_only=True)
class InteractionTerms:
    """Losses of two people, beside that of the denoiser"""

    lambda_distance_map: Annotated[float, WEIGHT] = 3.0
    """Weight of the loss on distances between the joints of the two, where they come near."""
    lambda_joint_affinity: Annotated[float, WEIGHT] = 3.0
    """Weight of the loss on joints that should touch."""
    lambda_orientation: Annotated[float, WEIGHT] = 0.01
    """Weight of the loss on how the two face each other."""
    lambda_velocity: Annotated[float, WEIGHT] = 30.0
    """Weight of the loss on the velocities of joints."""
    lambda_bone_length: Annotated[float, WEIGHT] = 10.0
    """Weight of the loss on the lengths of bones."""
    lambda_foot_contact: Annotated[float, WEIGHT] = 30.0
    """Weight of the loss on the speed of planted feet."""
    lambda_near_joints: Annotated[float, WEIGHT] = 0.0
    """Weight of the loss on all distances between the joints of the two, the nearer the more."""
    latest_step: Annotated[int, Range(0, 10_000)] = 700
    """Diffusion step up to which these losses count."""


@dataclass(frozen=True, kw_only=True)
class Strengths:
    """Guidance by the texts of each role, unless the user asks for another"""

    guidance_scale: Annotated[float, GUIDANCE] | None = None
    """By all texts together (default: the published 3.5; 3 with individual texts)."""
    guidance_interaction: Annotated[float, GUIDANCE] | None = None
    """By the text about both people alone, with individual texts (default: the published 3, or 0 beside --guidance_scale)."""
    guidance_individual: Annotated[float, GUIDANCE] | None = None
    """By the texts about each alone (default: the published 1, or 0 beside --guidance_scale)."""


@dataclass(frozen=True, kw_only=True)
@with_defaults(sampler="ddim", sampling_steps=50, spacing="strided")
class In2INConfig(InteractionTerms, Strengths, SamplingDefaults, Noising, Texts, FewRecordings, Network, Bounded):
    """Model and data"""

    features: Features = decided(TWO_PEOPLE)
    dataset: str = decided("interhuman")
    max_frames: Annotated[int, FRAMES] = decided(300)
    made_of_prior: str = decided("")  # dataset of the model of one person whose weights it has, beside what reads the partner

    reads_text = True

    def __post_init__(self):
        super().__post_init__()
        if self.prior_rank and self.mode != "interaction":
            raise ValueError("prior_rank is said of a model of two people: leave it out for one person")
        if self.tell_first and self.mode != "interaction":
            raise ValueError("tell_first is said of a model of two people: leave it out for one person")
        if self.made_of_prior and self.mode != "interaction":
            raise ValueError("made_of_prior is said of a model of two people")
        if self.latent_dim % 2 or self.latent_dim % self.num_heads:
            raise ValueError(f"latent_dim {self.latent_dim} must be even and a multiple of num_heads {self.num_heads}")
        if self.text_dim % self.text_heads:
            raise ValueError(f"{self.text_encoder} has {self.text_dim} channels, not a multiple of text_heads {self.text_heads}")
        if max(self.diffusion_steps, self.max_frames) > self.max_positions:
            raise ValueError(f"max_positions {self.max_positions}: at least diffusion_steps {self.diffusion_steps} and "
                             f"max_frames {self.max_frames}")

    @property
    def persons(self) -> int:
        return 2 if self.mode == "interaction" else 1

    @property
    def text_roles(self) -> tuple[str, ...]:
        """The texts it reads, in the order of its condition."""
        if self.mode == "individual":
            return ("text",)
        return ("interaction", "individual1", "individual2") if self.individual_texts else ("interaction",)

    @property
    def guidance(self) -> Guidance:
        """Its own strengths: what is set, else as published for its kind."""
        given = (self.guidance_scale, self.guidance_interaction, self.guidance_individual)
        kind = "individual" if self.mode == "individual" else "in2in" if self.individual_texts else "intergen"
        rest = PUBLISHED_GUIDANCE[kind] if self.guidance_scale is None else (0.0, 0.0, 0.0)
        return Guidance(*(other if own is None else own for own, other in zip(given, rest, strict=True)))

    @property
    def own_guidance(self) -> float | None:
        """The strength by all texts; None for a model that never learned to do without them."""
        return self.guidance.together if self.cond_mask_prob else None


@dataclass(frozen=True, kw_only=True)
class Blend:
    """Blend of what both people do together with what each does alone"""

    blend: Literal["exp", "exp-inv", "lin", "const"] = "exp"
    """Share of the individual denoiser at step t of 1000: exp(-v(1000-t)), 1 minus that, t/1000, or v."""
    blend_value: Annotated[float, Range(0, 1)] = 0.0085
    """v of that share."""
    convert: bool = True
    """Tell each denoiser of the motion in its own normalisation, and blend positions and velocities only; else, as published,
    both are blended as they are."""
    person2_layers: Literal["all", "last"] = "all"
    """Layers of the individual denoiser that person 2 goes through; in published code the last one only."""


@dataclass(frozen=True, kw_only=True)
class DualStrengths:
    """Guidance, unless the user asks for another"""

    guidance_interaction: Annotated[float, GUIDANCE] = 3.5
    """Of the denoiser of both people, by all its texts."""
    guidance_individual: Annotated[float, GUIDANCE] = 2.5
    """Of the denoiser of one person."""


@dataclass(frozen=True, kw_only=True)
@with_defaults(sampler="ddim", sampling_steps=50, spacing="strided")
class DualMDMConfig(DualStrengths, SamplingDefaults, Blend, Bounded):
    """What its parts decide"""

    features: Features = decided(TWO_PEOPLE)
    dataset: str = decided("interhuman")
    max_frames: Annotated[int, FRAMES] = decided(300)

    reads_text = True

    @property
    def guidance(self) -> Guidance:
        """Its own strengths."""
        return Guidance(interaction=self.guidance_interaction, individual=self.guidance_individual)

    @property
    def own_guidance(self) -> float | None:
        """The strength of the texts about both people."""
        return self.guidance_interaction


SHORT_COURSE = {  # of training on few recordings
    "schedule": "cosine", "warmup_steps": 200, "grad_clip": 1.0, "ema_decay": 0.999, "ema_warmup": True, "save_interval": 500,
    "eval_interval": 250, "log_interval": 50, "lr": 5e-4,
}  # fmt: skip
SMALL = {
    "latent_dim": 192, "ff_size": 384, "num_layers": 6, "num_heads": 6, "text_layers": 1, "text_heads": 6, "text_ff_size": 512,
    "window": 180, "patch": 4, "about_pelvis": True, "joints_only": True,
}  # fmt: skip
PRESETS = {  # of the published weights, and of networks for few recordings
    "in2in": {},
    "intergen": {"individual_texts": False},
    "prior": {"mode": "individual", "num_steps": 728_000, "schedule": "constant", "warmup_steps": 0},
    "small_prior": SMALL | SHORT_COURSE | {"mode": "individual", "spread": 1.5, "balance": 0.7, "num_steps": 6000,
                                           "batch_size": 32, "body_losses": True, "lambda_velocity": 100.0,
                                           "lambda_bone_length": 100.0},
    "small": SMALL | SHORT_COURSE | {"role_mask_prob": 0.1, "weight_decay": 0.01, "num_steps": 3500, "batch_size": 8,
                                     "prior_rank": 8, "tell_first": True, "lambda_velocity": 100.0, "lambda_bone_length": 100.0},
}  # fmt: skip
ALIASES = {"resume": "resume_checkpoint"}
IGNORED = {
    "train": "its settings are flags of this command", "model": "its settings are flags of this command",
    "data": "the dataset is --dataset",
}  # fmt: skip
