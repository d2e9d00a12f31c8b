"""How motion files are read; loads without torch, for the commands' flags."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from protos.bounds import Range, check_bounds


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How motion files are read that do not say it themselves."""

    mapping: str | None = None
    """BVH: TOML/JSON file, or the name of a shipped one, that maps the file's joints to ours (default: the shipped one that
    fits the joints' names)."""
    motion_fps: Annotated[float, Range(0.1, 10_000)] | None = None
    """Frames per second of joints in .npy or .npz files (default: those of the model)."""
    body_model: Path | None = None
    """AMASS: folder of the licensed SMPL+H / SMPL body model files."""

    def __post_init__(self) -> None:
        check_bounds(self, "--")
