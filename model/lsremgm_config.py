"""The settings of LS-ReMGM: the flags of `train.train_lsremgm`, the config.json of its checkpoints, and the networks' plan.

Defaults are the published ones (Tevet et al. 2023; DiP: Tevet et al. 2025), but for the text encoder that is embedded here. Those
of `latent`, LS-ReMGM in the latents of a motion autoencoder (`train.train_latent`), add what lets it learn from few recordings;
its defaults are those of the starter weights.
"""

from dataclasses import dataclass, replace
from typing import Annotated, Literal, Self

from data_loaders.features import HUMANML3D, Features
from protos.flags import CHANNELS, FRAMES, GUIDANCE, LAYERS, SAMPLING_STEPS, SHARE, WEIGHT, Bounded, Range, decided, with_defaults

ENCODERS = {"clip": "clip-b32", "bert": "distilbert"}  # as the published scripts call them


@dataclass(frozen=True, kw_only=True)
class Size:
    """Size of the denoiser"""

    latent_dim: Annotated[int, CHANNELS] = 512
    """Channels."""
    ff_size: Annotated[int, Range(1, 65_536)] = 1024
    """Channels of the feed-forward layers."""
    num_layers: Annotated[int, LAYERS] = 8
    """Layers."""
    num_heads: Annotated[int, Range(1, 256)] = 4
    """Attention heads."""
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.1
    """Dropout rate."""
    max_positions: Annotated[int, Range(2, 100_000)] = 5000
    """Rows of the table of positions and diffusion steps."""


@dataclass(frozen=True, kw_only=True)
class Network(Size):
    """Network of the denoiser"""

    arch: Literal["auto", "trans_enc", "trans_dec", "gru"] = "auto"
    """Denoiser; auto reads texts word by word (trans_dec), with clip as one vector (trans_enc)."""
    mask_frames: bool = False
    """Hide padded frames from attention: the model then samples at any length, not at the full one and cut."""
    gru_over: Literal["time", "batch"] = decided("time")  # "batch" repeats the original's axis slip, for its weights only


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What the motion is made for"""

    condition: Literal["text", "action", "none"] = "text"
    """What is asked for: a text, the number of an action, or nothing."""
    text_encoder: str = "minilm"
    """minilm, clip (= clip-b32), bert (= distilbert), or another name in model/text_towers.py."""
    text_memory: Literal["auto", "pooled", "tokens"] = "auto"
    """Read a text as one vector or word by word; auto: word by word with trans_dec, but for clip."""
    text_max_tokens: Annotated[int, Range(0, 10_000)] = 0
    """Words that are read of a text; 0: as many as the encoder can. Published models on CLIP read 22."""
    decoder_token: Literal["none", "time", "time+text"] = "none"
    """What a trans_dec has as a token before the frames too: the step, or the step with the text."""
    cond_mask_prob: Annotated[float, SHARE] = 0.1
    """How often the condition is left out, for classifier-free guidance; 0 makes a model without guidance."""
    context_len: Annotated[int, Range(0, 100_000)] = 0
    """Frames of given prefix (DiP); 0: none."""
    pred_len: Annotated[int, Range(0, 100_000)] = 0
    """Frames made after the prefix; 0: as many as the prefix has."""
    target_encoder: Literal["none", "single", "split", "multi"] = "none"
    """Condition on where joints end up (DiP), and how that target is encoded."""
    target_layers: Annotated[int, LAYERS] = 1
    """Layers of the target's encoder."""
    text_dim: Annotated[int, Range(0, 16_384)] = decided(0)
    num_actions: Annotated[int, Range(0, 100_000)] = decided(0)


@dataclass(frozen=True, kw_only=True)
class Noising:
    """Diffusion"""

    noise_schedule: Literal["cosine", "linear"] = "cosine"
    """Noise schedule."""
    diffusion_steps: Annotated[int, Range(2, 10_000)] = 1000
    """Diffusion steps; 50 samples 20 times faster at about the same quality."""
    sigma_small: bool = True
    """Sample with the smaller posterior variance."""
    prediction: Literal["x0", "eps", "v"] = "x0"
    """What the denoiser predicts."""


@dataclass(frozen=True, kw_only=True)
class SamplingDefaults:
    """Sampling, unless the user asks for another way"""

    guidance_scale: Annotated[float, GUIDANCE] = 2.5
    """Strength of classifier-free guidance."""
    sampler: Literal["ddpm", "ddim", "plms", "dpmpp", "consistency"] = "ddpm"
    """How the diffusion is run backwards."""
    sampling_steps: Annotated[int, SAMPLING_STEPS] | None = None
    """Denoising steps (default: all)."""
    spacing: Literal["even", "trailing", "strided"] = "even"
    """Which steps, if not all: even, from the first to the last; trailing, the last of each equal part, so that none is spent
    where hardly any noise is left; or strided, every so many-th from the first, as published for ddim."""


@dataclass(frozen=True, kw_only=True)
class LossTerms:
    """Losses beside that of the denoiser"""

    lambda_vel: Annotated[float, WEIGHT] = 0.0
    """Weight of the loss on frame-to-frame differences."""
    lambda_rcxyz: Annotated[float, WEIGHT] = 0.0
    """Weight of the loss on joint positions."""
    lambda_fc: Annotated[float, WEIGHT] = 0.0
    """Weight of the loss on the speed of planted feet."""
    lambda_target_loc: Annotated[float, WEIGHT] = 0.0
    """Weight of the loss on the distance to a target; setting it implies a --target_encoder."""


@dataclass(frozen=True, kw_only=True)
class LSReMGMConfig(LossTerms, SamplingDefaults, Noising, Conditions, Network, Bounded):
    """Model and data"""

    features: Features = decided(HUMANML3D)
    dataset: str = decided("humanml")
    max_frames: Annotated[int, FRAMES] = decided(196)

    def __post_init__(self):
        super().__post_init__()
        if self.latent_dim % 2 or (self.arch != "gru" and self.latent_dim % self.num_heads):
            raise ValueError(f"latent_dim {self.latent_dim} must be even and a multiple of num_heads {self.num_heads}")
        least = 20 if self.noise_schedule == "linear" else 2
        if not least <= self.diffusion_steps <= self.max_positions:
            raise ValueError(f"diffusion_steps {self.diffusion_steps}: a {self.noise_schedule} schedule needs at least {least}, "
                             f"and max_positions {self.max_positions} allows no more")
        if self.sampling_steps and self.sampling_steps > self.diffusion_steps:
            raise ValueError(f"sampling_steps {self.sampling_steps}: at most diffusion_steps {self.diffusion_steps}")
        for name, plain in (("text_memory", "tokens"), ("decoder_token", "time"), ("decoder_token", "time+text")):
            if getattr(self, name) == plain and self.arch not in ("auto", "trans_dec"):
                raise ValueError(f"{name} {plain} needs arch trans_dec, not {self.arch}")
        if self.arch == "trans_enc" and ENCODERS.get(self.text_encoder, self.text_encoder) == "distilbert":
            raise ValueError(f"text_encoder {self.text_encoder} is read word by word: it needs arch trans_dec")
        if self.condition == "action" and self.num_actions < 1:
            raise ValueError("a model of actions needs num_actions of at least 1: it is loaded, not trained here")

    @property
    def reads_text(self) -> bool:
        return self.condition == "text"

    @property
    def own_guidance(self) -> float | None:
        """The guidance scale; None for a model that never learned to do without its condition, or has none."""
        return None if self.condition == "none" or self.cond_mask_prob == 0 else self.guidance_scale

    def resolved(self) -> Self:
        """With what `auto`, the short names and 0 stand for."""
        encoder = ENCODERS.get(self.text_encoder, self.text_encoder) if self.condition == "text" else "none"
        by_vector = encoder.startswith("clip") or encoder == "none"
        arch = ("trans_enc" if by_vector else "trans_dec") if self.arch == "auto" else self.arch
        memory = "pooled" if by_vector or arch != "trans_dec" else "tokens"
        return replace(
            self, arch=arch, text_encoder=encoder, text_memory=memory if self.text_memory == "auto" else self.text_memory,
            pred_len=self.pred_len or self.context_len,
            target_encoder="single" if self.lambda_target_loc and self.target_encoder == "none" else self.target_encoder,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LatentNetwork:
    """What the network adds to LS-ReMGM's"""

    norm_first: bool = True
    """Normalise before attention and feed-forward layers instead of after."""
    modulation: bool = True
    """With --norm_first: step and whole text also shift, scale and gate every layer (as in DiT and PixArt)."""
    output_skip: bool = True
    """The prediction also takes a share, learned per step and channel, of the noisy input: details survive better."""


@dataclass(frozen=True, kw_only=True)
class FewRecordings:
    """What lets few recordings hold for more"""

    text_noise: Annotated[float, Range(0, 100)] = 0.5
    """Noise on the features of texts in training, relative to their size: few captions then hold for more wordings."""
    word_drop: Annotated[float, SHARE] = 0.2
    """Share of the words that is left out in training, for the same reason."""
    min_snr_gamma: Annotated[float, WEIGHT] = 500.0
    """Weight diffusion steps by min(SNR, gamma), Hang et al. 2023, 5 in the paper; 0: all alike."""
    snr_power: Annotated[float, Range(-10, 10)] = 0.5
    """Power of that weight; 0.5 gives the noisiest steps, where the text decides most, their share."""
    snr_floor: Annotated[float, SHARE] = 1e-3
    """Least SNR that counts in that weight."""
    calm_power: Annotated[float, Range(-10, 10)] = 0.5
    """Power by which motions with little movement count more; 0.5 lets small gestures be learnt beside walks."""
    smoothing: Annotated[float, Range(0, 1000)] = 0.0
    """Gaussian over sampled motions, sigma in frames; 0: none."""


@dataclass(frozen=True, kw_only=True)
@with_defaults(latent_dim=256, dropout=0.0, mask_frames=True, sampler="dpmpp", sampling_steps=20)
class LatentConfig(FewRecordings, LatentNetwork, LSReMGMConfig):
    """What is set otherwise than in LS-ReMGM"""

    arch: Literal["auto", "trans_enc", "trans_dec"] = "trans_dec"
    """Denoiser: reads texts as one vector (trans_enc) or word by word (trans_dec)."""

    def __post_init__(self):
        super().__post_init__()
        if self.modulation and not self.norm_first:
            raise ValueError("modulation works on layers that normalise first: it needs norm_first")
        if self.context_len:
            raise ValueError(f"context_len {self.context_len} is a prefix of frames, which latents do not have")


PRESETS = {  # of the published weights; `published` is the paper's own
    "published": {},
    "published_50steps": {"diffusion_steps": 50, "mask_frames": True},
    "dip": {
        "arch": "trans_dec", "text_encoder": "bert", "context_len": 20, "pred_len": 40, "diffusion_steps": 10,
        "mask_frames": True, "guidance_scale": 7.5,
    },
    "starter": "python -m train.train_latent --dataset NAME --autoencoder FOLDER, whose flags have its values by default",
}  # fmt: skip
ALIASES = {  # older name -> ours, or -> the setting and value that it stands for
    "layers": "num_layers", "text_encoder_type": "text_encoder", "pos_embed_max_len": "max_positions",
    "multi_encoder_type": "target_encoder", "target_enc_layers": "target_layers", "prompts": "sample_prompts",
    "multi_target_cond": "target_encoder=single", "emb_trans_dec": "decoder_token=time", "unconstrained": "condition=none",
}  # fmt: skip
IGNORED = {
    "train_platform_type": "the log goes to log.jsonl, and to TensorBoard where that is installed",
    "num_frames": "motions are as long as the dataset has them", "eval_batch_size": "judged in batches of 32, as published",
    "eval_split": "judged on val", "eval_rep_times": "judged once", "eval_num_samples": "judged by 256 motions",
    "eval_debug": "judged by 256 motions", "gen_num_samples": "a video per --sample_prompts",
    "gen_num_repetitions": "a video per --sample_prompts",
}  # fmt: skip
MOVED = {"mode=reaction": "python -m train.train_reaction --save_dir FOLDER --dataset NAME"}  # flag=value -> the command for it
