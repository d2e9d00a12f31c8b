"""Small untrained models over motion tokens."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from data_loaders.features import Features, Statistics
from model.captioner import Captioner
from model.captioner_config import CaptionerConfig
from model.checkpoints import save_pretrained
from model.lamp import LaMP
from model.lamp_config import LaMPConfig
from model.model import Model
from model.text_towers import tower_sizes
from model.token_transformer_config import ResidualConfig, TokenTransformerConfig
from model.token_transformers import ResidualTokenTransformer, TokenTransformer
from model.vqvae import VQVAE
from model.vqvae_config import VQVAEConfig

CONTINUOUS = Features("humanml", 20.0, "continuous")
STATISTICS = Statistics(np.zeros(263, np.float32), np.ones(263, np.float32), CONTINUOUS)
CODES = {"num_codes": 8, "code_dim": 6}
SPEAKER = {"words": "lamp", "own_qformer": False, "language_dim": 384, "language_layers": 1, "language_heads": 2,
           "language_ff": 8, "lora_rank": 0}  # fmt: skip
DRAWN = {"sampling_steps": 4, "top_k": 0.5}  # of eight codes the likeliest four
SIZES = {"latent_dim": 16, "ff_size": 16, "num_layers": 1, "num_heads": 2, "dropout": 0.0}


def tiny_tokenizer(num_quantizers: int = 1, seed: int = 0, **changes: Any) -> VQVAE:
    """With codes near its latents."""
    torch.manual_seed(seed)
    config = VQVAEConfig(**{"width": 12, "depth": 2, "features": CONTINUOUS, **CODES, **changes}, num_quantizers=num_quantizers)
    made = VQVAE(config, Statistics(STATISTICS.mean, STATISTICS.std, config.features))
    made.network.codebooks.codes.normal_(std=0.2)
    made.network.codebooks.started.fill_(True)
    return made.eval()


def tiny_lamp(seed: int = 0, **changes: Any) -> LaMP:
    """On the embedded language model's first layer."""
    torch.manual_seed(seed)
    settings = {
        "text_tower": "minilm", "num_layers": 1, "num_queries": 49, "memory_dim": 8, "query_ff_size": 8, "embedding": 10,
        "dropout": 0.0, "frozen_text": True, "mask_motion": True, "motion_classes": 8, "motion_dim": 6, "features": CONTINUOUS,
    }  # fmt: skip
    config = LaMPConfig(**{**settings, **tower_sizes("minilm"), **changes})
    return LaMP(config, STATISTICS, {"tokenizer": tiny_tokenizer()}).eval()


def tiny_transformer(parts: dict[str, Model] | None = None, seed: int = 0, **changes: Any) -> TokenTransformer:
    torch.manual_seed(seed)
    parts = parts or {"tokenizer": tiny_tokenizer()}
    dim = parts["lamp"].config.latent_dim if "lamp" in parts else 384
    config = TokenTransformerConfig(**{**SIZES, **CODES, **DRAWN, "condition_dim": dim, "features": CONTINUOUS, **changes})
    return lively(TokenTransformer(config, STATISTICS, parts).eval())


def tiny_residual(seed: int = 0, **changes: Any) -> ResidualTokenTransformer:
    """On a base whose tokenizer has three codebooks."""
    base = tiny_transformer({"tokenizer": tiny_tokenizer(3)}, num_quantizers=3)
    torch.manual_seed(seed)
    own = {"condition_dim": 384, "features": CONTINUOUS, "num_quantizers": 3}
    config = ResidualConfig(**{**SIZES, **CODES, **DRAWN, **own, **changes})
    return lively(ResidualTokenTransformer(config, STATISTICS, {"base": base}).eval())


def tiny_captioner(**changes: Any) -> Captioner:
    """In the words of the embedded language model."""
    torch.manual_seed(0)
    of_lamp = [name for name in ("frozen_text", "own_encoder", "mask_motion", "mask_queries") if name in changes]
    lamp = tiny_lamp(**{name: changes.pop(name) for name in of_lamp})
    config = CaptionerConfig(**{**SPEAKER, "vocabulary": 30_522, "features": CONTINUOUS, **changes})
    return Captioner(config, STATISTICS, {"lamp": lamp}).eval()


def lively(model: Model) -> Model:
    """With weights large enough for what it reads to be seen in what it makes."""
    with torch.no_grad():
        for parameter in model.networks.parameters():
            if parameter.requires_grad and parameter.dim() > 1:
                parameter.mul_(12)
    return model


def saved(folder: Path, model: Model) -> Path:
    save_pretrained(folder, model)
    return folder
