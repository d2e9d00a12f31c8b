"""What tests need and not every machine has: the shared motion data and golden numbers, spaCy."""

import os
from pathlib import Path

import pytest

from data_loaders.text import INSTALL_SPACY, spacy_model

needs_spacy = pytest.mark.skipif(spacy_model() is None, reason=f"spaCy's English model is not installed: {INSTALL_SPACY}")

def shared_folder() -> Path | None:
    """$MOTION_SHARED, or a folder `shared` beside the checkout; None where neither exists."""
    named = os.environ.get("MOTION_SHARED")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared"
    return folder if folder.is_dir() else None


def shared(*parts: str) -> Path:
    """Path below the shared folder; skips the test, saying why, where it is absent."""
    folder = shared_folder()
    if folder is None:
        pytest.skip("shared data not found: set MOTION_SHARED or put a folder `shared` beside the checkout")
    path = folder.joinpath(*parts)
    if not path.exists():
        pytest.skip(f"{path} is not part of this copy of the shared data")
    return path
