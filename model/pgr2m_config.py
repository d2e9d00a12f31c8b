"""The settings of PGR2M's tokenizer: flags of `train.train_pg_tokenizer`, config.json of its checkpoints.

Defaults are those of PGR2M (arXiv 2512.22464); `como` has pose codes alone (CoMo, arXiv 2403.13900).
"""

from dataclasses import dataclass
from typing import Annotated, Literal

from model.vqvae_config import ALIASES as TOKENIZER_ALIASES
from model.vqvae_config import SMALL as TOKENIZER_SMALL
from model.vqvae_config import TokenizerConfig
from protos.flags import SHARE, WEIGHT, Range, with_defaults

ACTIVATIONS = ("relu", "silu", "gelu")
TOKEN_FRAMES = 4  # of a token, whose pose is that of the first
NUM_CODES, NUM_GROUPS = 392, 70  # of poses, as in the table; of each group a pose has one


@dataclass(frozen=True, kw_only=True)
@with_defaults(dropout=0.0, quantizer_drop=0.2)
class PGTokenizerConfig(TokenizerConfig):
    """Pose codes, and what they leave"""

    num_quantizers: Annotated[int, Range(0, 64)] = 6
    """Codebooks for what the pose codes leave of a latent, each for what the ones before it leave; 0: pose codes alone."""
    quantizer_cutoff: Annotated[int, Range(0, 63)] = 0
    """With --quantizer_drop: how many codebooks after the first training never leaves out."""
    residual_drop: Annotated[float, SHARE] = 0.1
    """How often training decodes a whole batch from its pose codes alone."""
    residual_ratio: Annotated[float, WEIGHT] = 1.0
    """What the codebooks' vectors are multiplied by before the decoder."""
    hold_pose: bool = True
    """Let no gradient reach the pose codes' vectors through what they leave of a latent."""
    value_beta: Annotated[float, WEIGHT] = 0.25
    """Weight, within the loss of a codebook, of how far the value of a code lies from a latent that is held still."""
    lambda_entropy: Annotated[float, WEIGHT] = 0.01
    """Weight of the loss that makes single choices of a code sure and spreads all of them over the codebook."""
    distance: Literal["l1", "l2", "l1_smooth"] = "l1_smooth"
    """How far two motions lie apart."""
    weighted_again: Literal["positions", "velocities", "differences"] = "positions"
    """What --lambda_positions weighs: joint positions, joint velocities, or differences of all columns between frames."""
    jitter: bool = True
    """Read the training motions' poses with noise near the bounds of their codes, as the published training data have it."""
    turn: Annotated[float, SHARE] = 0.5
    """How often training reads the pose codes of a window as of somebody who faces elsewhere at its start, as in the middle of a
    clip: codes tell left, right, front and back along the axes of a clip's first frame."""

    @property
    def in_words(self) -> str:
        return f"{NUM_GROUPS} pose codes and {super().in_words}"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.downsampling != TOKEN_FRAMES:
            raise ValueError(f"num_levels {self.num_levels}: expected 2, pose codes tell every {TOKEN_FRAMES}th frame")
        if self.features.kind != "humanml":
            raise ValueError(f"pose codes are of features of kind humanml, not {self.features.kind}")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation {self.activation[:40]!r}: expected one of {', '.join(ACTIVATIONS)}")
        if self.quantizer_cutoff >= max(self.num_quantizers, 1):
            raise ValueError(f"quantizer_cutoff {self.quantizer_cutoff}: expected less than num_quantizers {self.num_quantizers}")


COMO = {"num_quantizers": 0}
SMALL = {**TOKENIZER_SMALL, "num_codes": 256}
PRESETS = {"published": {}, "como": COMO, "small": SMALL}  # of published weights, of CoMo's, of the starter weights
ALIASES = {  # the published scripts' name -> ours
    **{old: new for old, new in TOKENIZER_ALIASES.items() if old != "nb_code"}, "rvq_num_quantizers": "num_quantizers",
    "rvq_nb_code": "num_codes", "rvq_quantize_dropout_prob": "quantizer_drop",
    "rvq_quantize_dropout_cutoff_index": "quantizer_cutoff", "rvq_loss_weight": "lambda_commit",
    "rvq_residual_ratio": "residual_ratio", "rvq_vq_loss_beta": "value_beta", "params_soft_ent_loss": "lambda_entropy",
    "detach_p_latent": "hold_pose", "pdrop_res": "residual_drop", "recons_loss": "distance", "resume_pth": "resume_checkpoint",
    "print_iter": "log_interval", "eval_iter": "eval_interval", "dataname": "dataset", "lr_scheduler": "milestones",
}  # fmt: skip
IGNORED = {
    "stride_t": "a level halves the frame rate, as in all published files", "output_emb_width": "that is --code_dim",
    "vq_norm": "no published file has it", "nb_code": "pose codes are 392; of the codebooks that is --rvq_nb_code",
    "rvq_quantizer_type": "codebooks are soft, as in all published files",
    "rvq_shared_codebook": "every codebook is its own, as in all published files",
    "rvq_mu": "soft codebooks are no averages", "unuse_ema": "soft codebooks are no averages",
    "rvq_init_method": "codebooks begin at latents, as in all published files", "loss_cfg_path": "losses are flags",
    "codes_folder_name": "pose codes are made from the motion", "meta_dir": "mean and std are those of the dataset",
    "use_keywords": "a tokenizer reads no text", "use_full_sequence": "that is --window_size",
    "val_shuffle": "the validation batches are always the same",
}  # fmt: skip
