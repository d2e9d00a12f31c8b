"""Checkpoint folders as version 0.1 of this project wrote them, brought to the form of today when they are read."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor

from data_loaders.corpus import Statistics

FLAT = ("skeleton", "fps", "heading")  # of the features, which had no record of their own
DROPPED = ("num_features", "num_columns")  # now told by the features
# Settings that LS-ReMGM had and the system `latent` has now, with the value that leaves them out.
OF_LATENT = {
    "norm_first": False, "modulation": False, "output_skip": False, "text_noise": 0.0, "word_drop": 0.0, "min_snr_gamma": 0.0,
    "snr_power": 1.0, "snr_floor": 0.0, "calm_power": 0.0, "smoothing": 0.0,
}  # fmt: skip


def as_of_today(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The settings in a config.json; `parts` holds those of a part whose weights lie among the model's own, as a record."""
    system = settings.get("system")
    if isinstance(settings.get("features"), Mapping) or not isinstance(system, str):
        return settings
    today = {name: value for name, value in settings.items() if name not in (*FLAT, *DROPPED, "features")}
    features = {name: settings[name] for name in FLAT if name in settings}
    if len(features) < len(FLAT) and (folder / "stats.npz").is_file():
        features = asdict(Statistics.load(folder / "stats.npz").features)
    features["kind"] = settings.get("features", "humanml")
    today["features"] = features
    if system == "lsremgm":
        return _lsremgm(today)
    return today


def _lsremgm(today: dict[str, Any]) -> dict[str, Any]:
    today["sampling_steps"] = today.pop("num_steps", None)
    autoencoder = today.pop("autoencoder", None)
    if autoencoder is None and all(today.get(name, plain) == plain for name, plain in OF_LATENT.items()):
        return {name: value for name, value in today.items() if name not in OF_LATENT}
    today["system"] = "latent"
    today = {**OF_LATENT, **today}
    if isinstance(autoencoder, Mapping):
        sizes = {name: value for name, value in autoencoder.items() if name not in DROPPED}
        today["parts"] = {"autoencoder": {**sizes, "features": today["features"], "dataset": today.get("dataset", "")}}
    return today


def weights_of_today(system: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict whose names begin with those of the model's networks."""
    if system == "motion_autoencoder" and not any(name.startswith("autoencoder.") for name in state):
        return {f"autoencoder.{name}": value for name, value in state.items()}
    return dict(state)
