"""Where official weights and data lie that were fetched, or put there by hand: checkpoints/official/NAME, formerly elsewhere."""

from pathlib import Path

from protos.outputs import MANIFEST, read_manifest
from protos.reading import FileError, read_json

OFFICIAL = Path("checkpoints/official")


def official_folder(place: Path, former: Path) -> Path:
    """`place`, or the former place of the same files where only that holds them. What comes with the code does not count."""
    return former if not visible(place) and visible(former) and not made_here(former) else place


def visible(folder: Path) -> list[Path]:
    """What lies in a folder, hidden files aside; nothing where there is none."""
    return sorted(p for p in folder.glob("*") if not p.name.startswith(".")) if folder.is_dir() else []


def made_here(folder: Path) -> bool:
    """Whether a folder is a checkpoint made by this code: its manifest or its configuration says so."""
    try:
        if (folder / MANIFEST).is_file() and read_manifest(folder / MANIFEST) is not None:
            return True
        settings = read_json(folder / "config.json") if (folder / "config.json").is_file() else None
    except (FileError, OSError):
        return False
    return isinstance(settings, dict) and "system" in settings
