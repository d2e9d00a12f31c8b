"""python -m train.train_lsremgm --save_dir save/run --dataset humanml: text to motion by diffusion (LS-ReMGM, MDM)."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from protos.bounds import CHANNELS, GUIDANCE, LAYERS, SHARE, WEIGHT, Range
from protos.flags import configured
from protos.options import command, run_command
from train.options import TrainOptions

if TYPE_CHECKING:
    from train.loop import TrainResult
    from train.recipe import Recipe

ALIASES = {"layers": "num_layers", "text_encoder": "text_encoder_type", "prompts": "sample_prompts"}
IGNORED = {
    "train_platform_type": "the log goes to log.jsonl, and to TensorBoard where that is installed",
    "num_frames": "motions are as long as the dataset has them", "eval_batch_size": "judged in batches of 32, as published",
    "eval_split": "judged on val", "eval_rep_times": "judged once", "eval_num_samples": "judged by 256 motions",
    "eval_debug": "judged by 256 motions", "gen_num_samples": "a video per --sample_prompts",
    "gen_num_repetitions": "a video per --sample_prompts",
}  # fmt: skip
# The recipes of the published weights; `published` is the paper's own and what the flags' defaults say.
PRESETS: dict[str, dict[str, Any]] = {
    "published": {},
    "published_50steps": {"diffusion_steps": 50, "mask_frames": True},
    "dip": {
        "arch": "trans_dec", "text_encoder_type": "bert", "context_len": 20, "pred_len": 40, "diffusion_steps": 10,
        "mask_frames": True, "guidance_scale": 7.5,
    },
    "starter": {
        "dataset": "bandai_namco", "autoencoder": "save/autoencoder/best", "arch": "trans_dec", "latent_dim": 256,
        "norm_first": True, "modulation": True, "output_skip": True, "mask_frames": True, "dropout": 0.0, "min_snr_gamma": 500.0,
        "snr_power": 0.5, "snr_floor": 1e-3, "calm_power": 0.5, "text_noise": 0.5, "word_drop": 0.2,
        "sampler": "dpmpp", "sampling_steps": 20, "balance": 0.7, "repeat": 0.35, "bucket": True,
        "num_steps": 16000, "batch_size": 64, "lr": 5e-4, "warmup_steps": 500, "adam_beta2": 0.99, "weight_decay": 0.01,
        "schedule": "cosine", "grad_clip": 1.0, "precision": "bf16", "ema_decay": 0.999, "ema_warmup": True,
        "save_interval": 500, "eval_interval": 500, "log_interval": 50,
    },
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LSReMGMOptions(TrainOptions):
    """Train a text-to-motion diffusion model on a prepared dataset."""

    preset: Literal["published", "published_50steps", "dip", "starter"] = "published"
    """Recipe that sets the defaults of the other flags."""
    dataset: str = "humanml"
    """humanml, kit, bandai_namco, or a folder made by data_loaders.prepare."""
    dataset_folder: str = ""
    """Where the dataset lies, if not at dataset/."""
    balance: Annotated[float, Range(0, 10)] = 0.0
    """How far rare contents are lifted: 0 draws clips as often as they occur, 1 every content equally often."""

    repeat: Annotated[float, SHARE] = 0.0
    """How often a short action on the spot is played several times in a row, for requests longer than recordings."""

    bucket: bool = False
    """With --mask_frames: batches of clips of similar length, which saves the time spent on padding."""

    arch: Literal["auto", "trans_enc", "trans_dec", "gru"] = "auto"
    """Denoiser; auto reads texts word by word (trans_dec), with clip as one vector (trans_enc)."""
    text_encoder_type: str = "minilm"
    """minilm, clip (= clip-b32), bert (= distilbert), or another name of model.text_encoders."""
    emb_trans_dec: bool = False
    """Give a trans_dec the step as a token before the frames too."""
    num_layers: Annotated[int, LAYERS] = 8
    """Layers of the denoiser."""
    latent_dim: Annotated[int, CHANNELS] = 512
    """Channels of the denoiser."""
    ff_size: Annotated[int, Range(1, 65_536)] = 1024
    """Channels of its feed-forward layers."""
    num_heads: Annotated[int, Range(1, 256)] = 4
    """Attention heads."""
    dropout: Annotated[float, Range(0, 1, below=True)] = 0.1
    """Dropout rate."""
    norm_first: bool = False
    """Normalise before attention and feed-forward layers instead of after."""
    modulation: bool = False
    """With --norm_first: step and whole text also shift, scale and gate every layer (as in DiT and PixArt)."""
    output_skip: bool = False
    """The prediction also takes a share, learned per step and channel, of the noisy input: details survive better."""
    pos_embed_max_len: Annotated[int, Range(2, 100_000)] = 5000
    """Rows of the table of positions and diffusion steps."""
    cond_mask_prob: Annotated[float, SHARE] = 0.1
    """How often the text is left out, for classifier-free guidance; 0 makes a model without guidance."""
    text_noise: Annotated[float, Range(0, 100)] = 0.0
    """Noise on the features of texts in training, relative to their size: few captions then hold for more wordings."""
    word_drop: Annotated[float, SHARE] = 0.0
    """Share of the words that is left out in training, for the same reason."""
    mask_frames: bool = False
    """Hide padded frames from attention: the model then samples at any length, not at the full one and cut."""
    unconstrained: bool = False
    """No text at all."""
    autoencoder: str = ""
    """Checkpoint of train.train_autoencoder, or of a model that has one, whose latents are diffused instead of features."""

    context_len: Annotated[int, Range(0, 100_000)] = 0
    """Frames of given prefix (DiP); 0: none."""
    pred_len: Annotated[int, Range(0, 100_000)] = 0
    """Frames made after the prefix; 0: as many as the prefix has."""
    multi_target_cond: bool = False
    """Condition on where joints end up (DiP)."""
    multi_encoder_type: Literal["single", "multi", "split"] = "single"
    """How that target is encoded."""
    target_enc_layers: Annotated[int, LAYERS] = 1
    """Layers of that encoder."""

    noise_schedule: Literal["cosine", "linear"] = "cosine"
    """Noise schedule."""
    diffusion_steps: Annotated[int, Range(2, 10_000)] = 1000
    """Diffusion steps; 50 samples 20 times faster at about the same quality."""
    sigma_small: bool = True
    """Sample with the smaller posterior variance."""
    prediction: Literal["x0", "eps", "v"] = "x0"
    """What the denoiser predicts."""
    min_snr_gamma: Annotated[float, WEIGHT] = 0.0
    """Weight diffusion steps by min(SNR, gamma); 0: all alike."""
    snr_power: Annotated[float, Range(0, 10)] = 1.0
    """Power of that weight; 0.5 gives the noisiest steps, where the text decides most, their share."""
    snr_floor: Annotated[float, SHARE] = 0.0
    """Least SNR that counts in that weight."""
    calm_power: Annotated[float, Range(0, 10)] = 0.0
    """Power by which motions with little movement count more; 0.5 lets small gestures be learnt beside walks."""
    guidance_scale: Annotated[float, GUIDANCE] = 2.5
    """Guidance that samples use unless told otherwise."""
    sampler: Literal["ddpm", "ddim", "plms", "dpmpp"] = "ddpm"
    """Sampler that samples use unless told otherwise."""
    sampling_steps: Annotated[int, Range(0, 10_000)] = 0
    """Denoising steps that samples take unless told otherwise; 0: all."""
    smoothing: Annotated[float, Range(0, 1000)] = 0.0
    """Gaussian over sampled motions, sigma in frames; 0: none."""
    lambda_vel: Annotated[float, WEIGHT] = 0.0
    """Weight of the loss on frame-to-frame differences."""
    lambda_rcxyz: Annotated[float, WEIGHT] = 0.0
    """Weight of the loss on joint positions."""
    lambda_fc: Annotated[float, WEIGHT] = 0.0
    """Weight of the loss on the speed of planted feet."""
    lambda_target_loc: Annotated[float, WEIGHT] = 0.0
    """Weight of the loss on the distance to a target; setting it implies --multi_target_cond."""

    sample_prompts: tuple[str, ...] = ()
    """Prompts of the videos of --sample_interval (default: captions of the data), one motion of 6 s each."""
    eval_during_training: bool = False
    """Judge motions made for captions of the val split too (R-precision, FID, ...), by the dataset's evaluator; without
    --eval_interval at every checkpoint."""
    gen_during_training: bool = False
    """Sample videos at every checkpoint; as --sample_interval with the value of --save_interval."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.latent_dim % self.num_heads:
            raise ValueError(f"--latent_dim {self.latent_dim} must be a multiple of --num_heads {self.num_heads}")
        if self.latent_dim % 2:
            raise ValueError(f"--latent_dim must be even, got {self.latent_dim}")
        least = 20 if self.noise_schedule == "linear" else 2
        if not least <= self.diffusion_steps <= self.pos_embed_max_len:
            raise ValueError(
                f"--diffusion_steps {self.diffusion_steps}: a {self.noise_schedule} schedule needs at least {least}, "
                f"and --pos_embed_max_len {self.pos_embed_max_len} allows no more"
            )
        if self.sampling_steps > self.diffusion_steps:
            raise ValueError(f"--sampling_steps {self.sampling_steps}: at most --diffusion_steps {self.diffusion_steps}")
        if self.modulation and (self.arch == "gru" or not self.norm_first):
            raise ValueError("--modulation needs --norm_first and --arch trans_enc or trans_dec")
        if self.arch == "gru" and self.autoencoder:
            raise ValueError("--autoencoder needs --arch trans_enc or trans_dec")
        if self.context_len and self.autoencoder:
            raise ValueError("--context_len is a prefix of frames, which latents do not have: leave out --autoencoder")


def effective(options: LSReMGMOptions) -> LSReMGMOptions:
    """The options with the flags that stand for others worked in."""
    changes: dict[str, Any] = {}
    if options.eval_during_training and not options.eval_interval:
        changes["eval_interval"] = options.save_interval
    if options.gen_during_training and not options.sample_interval:
        changes["sample_interval"] = options.save_interval
    if options.context_len and not options.pred_len:
        changes["pred_len"] = options.context_len
    if options.lambda_target_loc > 0:
        changes["multi_target_cond"] = True
    encoder = {"clip": "clip-b32", "bert": "distilbert"}.get(options.text_encoder_type, options.text_encoder_type)
    by_vector = encoder.startswith("clip") or options.unconstrained
    if options.arch == "auto":
        changes["arch"] = "trans_enc" if by_vector else "trans_dec"
    if options.arch == "trans_enc" and encoder == "distilbert":
        raise ValueError("--text_encoder_type bert is read word by word: it needs --arch trans_dec")
    return replace(options, text_encoder_type=encoder, **changes)


def run(options: LSReMGMOptions) -> "TrainResult":
    """Trains as the options say. Raises ValueError or OSError, in a user's words, for what cannot be trained."""
    from train.loop import train

    options = effective(options)
    return train(recipe(options), options)


def recipe(options: LSReMGMOptions) -> "Recipe":
    """What effective options ask for."""
    from data_loaders.corpus import Corpus
    from model.lsremgm import LSReMGMConfig
    from train.lsremgm_recipe import Drawing, lsremgm_recipe

    by_word = options.arch == "trans_dec" and not options.text_encoder_type.startswith("clip")
    config = configured(
        LSReMGMConfig, options, autoencoder=None, max_positions=options.pos_embed_max_len,
        num_steps=options.sampling_steps or None,
        condition="none" if options.unconstrained else "text", text_encoder=options.text_encoder_type,
        text_memory="tokens" if by_word and not options.unconstrained else "pooled",
        decoder_token="time" if options.emb_trans_dec and options.arch == "trans_dec" else "none",
        target_encoder=options.multi_encoder_type if options.multi_target_cond else "none",
        target_layers=options.target_enc_layers,
    )  # fmt: skip
    drawing = Drawing(options.balance, options.repeat, options.bucket)
    corpus = Corpus.open(options.dataset_folder or options.dataset)
    return lsremgm_recipe(
        corpus, config, options, drawing, options.autoencoder, options.sample_prompts, options.eval_during_training
    )


main = command(LSReMGMOptions, run, __doc__, ALIASES, PRESETS, IGNORED)

if __name__ == "__main__":
    run_command(main)
