"""Text features written as the published TMR writes them."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model.text_encoders import TextEncoder


def save_text_features(path: Path, texts: Sequence[str], encoder: TextEncoder, words: bool) -> None:
    """The distinct texts' features of every word, marks of start and end included, or of each text as a whole, at `path`,
    which has no suffix.
    """
    distinct = list(dict.fromkeys(texts))
    features, slices = encoder.encode(distinct), None
    array = features.tokens[features.mask] if words else features.pooled
    if words:
        ends = features.mask.sum(1).cumsum(0).numpy()
        slices = np.stack([np.concatenate([[0], ends[:-1]]), ends], axis=1)
    write_text_features(path, array.numpy(), {text: i for i, text in enumerate(distinct)}, slices)


def write_text_features(path: Path, array: np.ndarray, index: dict[str, int], slices: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_name(f"{path.name}_index.json").write_text(json.dumps(index))
    np.save(path.with_name(f"{path.name}.npy"), array)
    if slices is not None:
        np.save(path.with_name(f"{path.name}_slice.npy"), slices)
