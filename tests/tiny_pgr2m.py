"""Small untrained models over pose codes."""

from typing import Any

import torch

from data_loaders.features import Features, Statistics
from model.pgr2m import PGTokenizer
from model.pgr2m_config import PGTokenizerConfig
from model.pgr2m_transformer_config import PoseRefinerConfig, PoseTransformerConfig
from model.pgr2m_transformers import PoseTextRefiner, PoseTextTransformer
from tests.tiny_tokens import CONTINUOUS, SIZES, STATISTICS, lively

CODES = {"num_codes": 8, "code_dim": 6, "width": 12, "depth": 2}


def tiny_pg_tokenizer(num_quantizers: int = 2, features: Features = CONTINUOUS, **changes: Any) -> PGTokenizer:
    torch.manual_seed(0)
    config = PGTokenizerConfig(**{**CODES, "num_quantizers": num_quantizers, "features": features, **changes})
    made = PGTokenizer(config, Statistics(STATISTICS.mean[: features.width], STATISTICS.std[: features.width], features))
    with torch.no_grad():
        made.network.pose_codebook.normal_()
        if num_quantizers:
            made.network.codebooks.started.fill_(True)
    return made.eval()


def tiny_base(tokenizer: PGTokenizer | None = None, seed: int = 0, **changes: Any) -> PoseTextTransformer:
    tokenizer = tokenizer or tiny_pg_tokenizer()
    torch.manual_seed(seed)
    own = {**SIZES, "num_layers": 2, "condition_dim": 384, "features": tokenizer.features}
    config = PoseTransformerConfig(**{**own, **changes})
    return lively(PoseTextTransformer(config, tokenizer.statistics, {"tokenizer": tokenizer}).eval())


def tiny_refiner(base: PoseTextTransformer | None = None, seed: int = 0, **changes: Any) -> PoseTextRefiner:
    base = base or tiny_base()
    torch.manual_seed(seed)
    codes = base.tokenizer.config
    own = {**SIZES, "condition_dim": 384, "features": base.features, "num_codes": codes.num_codes,
           "num_quantizers": codes.num_quantizers}  # fmt: skip
    return lively(PoseTextRefiner(PoseRefinerConfig(**{**own, **changes}), base.statistics, {"base": base}).eval())
