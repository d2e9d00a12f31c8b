"""The settings of PGR2M's transformers: flags of `train.train_base_trans` and `train.train_refine_trans`, config.json of their
checkpoints. Defaults are the published ones (arXiv 2512.22464); CoMo's base transformer has the same.
"""

from dataclasses import dataclass
from typing import Annotated, Literal, Self

from data_loaders.features import Features
from model.token_transformer_config import OverTokensConfig
from model.vqvae_config import TokenizerConfig
from protos.flags import SHARE, Range, decided, with_defaults

KEYWORD_SLOTS, ALTERNATIVES = 11, 3  # of the published files of keywords


@dataclass(frozen=True, kw_only=True)
class PoseCondition:
    """What it is told"""

    num_keywords: Annotated[int, Range(0, 64)] = KEYWORD_SLOTS
    """Slots for keywords beside the vector of the whole text."""
    keywords: Literal["sentence", "words"] = "sentence"
    """What stands in the slots where a motion has no file of keywords: the vector of the whole text again, or those of its
    words, in their order, with zeros behind them."""
    keyword_drop: Literal["published", "each", "none"] = "published"
    """Which slots training leaves out: of the first two each in 11 of 12 samples, as published code does where it means each of
    all slots, with a chance that is drawn for a sample (each)."""


@dataclass(frozen=True, kw_only=True)
@with_defaults(latent_dim=1024, ff_size=4096, num_layers=18, num_heads=16, dropout=0.1, top_k=0.0)
class OverPosesConfig(PoseCondition, OverTokensConfig):
    """What both transformers have."""

    @property
    def own_guidance(self) -> float | None:
        """None: these models never learn to do without their text."""
        return None

    @property
    def key_padding(self) -> bool:
        """Padding is hidden."""
        return True


@dataclass(frozen=True, kw_only=True)
class PoseTransformerConfig(OverPosesConfig):
    """Training of the base transformer"""

    teacher_forcing: Annotated[float, SHARE] = 0.1
    """How often a training batch reads the true poses. Published training begins with 1, which falls to this within 230 steps."""
    keep_prob: Annotated[float, SHARE] = 0.5
    """Of the others, how many of the codes stay; in place of the rest stands noise, of whose greatest a group then is."""


@dataclass(frozen=True, kw_only=True)
@with_defaults(num_layers=6, num_heads=8, dropout=0.2)
class PoseRefinerConfig(OverPosesConfig):
    """Of the refine transformer"""

    share_weights: bool = True
    """Read a codebook's codes by what they are told by."""
    pose_embedding: Literal["own", "base", "frozen"] = "own"
    """What poses are read by: learned anew, or begun with what the base reads them by, and then learned or frozen."""
    num_codes: Annotated[int, Range(1, 65_536)] = decided(512)
    num_quantizers: Annotated[int, Range(1, 64)] = decided(6)

    def fitted(self, codes: TokenizerConfig, features: Features) -> Self:
        if not codes.num_quantizers:
            raise ValueError("a refine transformer needs a tokenizer with codebooks, this one has pose codes alone: train one "
                             "with train.train_pg_tokenizer")  # fmt: skip
        return super().fitted(codes, features)


_SMALL = {
    "latent_dim": 192, "ff_size": 512, "num_heads": 6, "dropout": 0.1, "num_keywords": 24, "keywords": "words",
    "keyword_drop": "none", "batch_size": 64, "lr": 5e-4, "schedule": "cosine", "warmup_steps": 500, "grad_clip": 1.0,
    "adam_beta1": 0.9, "adam_beta2": 0.99, "use_ema": True, "ema_decay": 0.999, "ema_warmup": True, "precision": "auto",
    "save_interval": 1000, "eval_interval": 500, "log_interval": 50, "balance": 0.7,
}  # fmt: skip
BASE_PRESETS = {"published": {}, "small": {**_SMALL, "num_layers": 7, "num_steps": 12_000}}
REFINE_PRESETS = {"published": {}, "small": {**_SMALL, "num_layers": 3, "num_steps": 8000}}
ALIASES = {  # the published scripts' name -> ours
    "dataname": "dataset", "total_iter": "num_steps", "warm_up_iter": "warmup_steps", "lr_scheduler": "milestones",
    "embed_dim_gpt": "latent_dim", "n_head_gpt": "num_heads", "drop_out_rate": "dropout", "pkeep": "keep_prob",
    "min_sampling_prob": "teacher_forcing", "dec_checkpoint_folder": "tokenizer", "t2m_checkpoint_folder": "base",
    "resume_trans": "resume_checkpoint", "print_iter": "log_interval", "eval_iter": "eval_interval",
    "share_weight": "share_weights", "load_pretrained_pose_code_emb": "pose_embedding=base",
    "freeze_pose_code_emb": "pose_embedding=frozen",
}  # fmt: skip
IGNORED = {
    **dict.fromkeys(("token_emb_layer", "use_rope_pos_emb", "disable_pos_emb_additional", "cond_mask_prob", "eval_masking",
                     "log_cat_right_num", "soft_label_folder_name", "if_maxtest", "clip_grad"), "published code ignores it too"),
    "block_size": "it follows from the longest motion", "clip_dim": "the text encoder says it", "ff_rate": "that is --ff_size",
    "decay_option": "all weights decay alike", "optimizer": "AdamW, as in all published runs",
}  # fmt: skip
IGNORED_OF_REFINE = {
    **IGNORED, "start_warm_up": "that is --warmup_steps 0 or more",
    **dict.fromkeys(("pkeep", "min_sampling_prob", "scheduled_sampling", "schedule_pkeep", "mask_residual_code", "masking_prob",
                     "schedule_masking_prob"), "what it reads is left as it is, as in the published recipe"),
}  # fmt: skip
