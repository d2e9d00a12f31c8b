"""The clips of a split, in a HumanML3D folder or a packed corpus, and an account of those that cannot be used."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from data_loaders.text import Caption, read_caption_file

if TYPE_CHECKING:
    from data_loaders.corpus import Corpus


@dataclass(frozen=True)
class Clips:
    """The clips of a split. `motion(name)` gives features (T, D), `captions(name)` what describes them; both raise
    KeyError or OSError for a clip that is not there.
    """

    names: Sequence[str]
    motion: Callable[[str], np.ndarray]
    captions: Callable[[str], list[Caption]]


def clips_of_folder(folder: str | Path, split: str) -> Clips:
    """Clips of a folder in the HumanML3D layout. Raises FileNotFoundError where it lacks the split list."""
    folder = Path(folder)
    return Clips(
        read_split(folder, split),
        lambda name: np.load(folder / "new_joint_vecs" / f"{name}.npy", allow_pickle=False),
        lambda name: read_caption_file(folder / "texts" / f"{name}.txt"),
    )


def clips_of_corpus(corpus: "Corpus", split: str) -> Clips:
    """Clips of a packed corpus; names of the split list that it lacks count as missing."""
    names = corpus.names if split == "all" else read_split(corpus.folder, split)
    return Clips(names, lambda name: corpus[corpus.position(name)], corpus.captions)


def read_split(folder: Path, split: str) -> list[str]:
    path = Path(folder) / f"{split}.txt"
    if not path.is_file():
        known = sorted(p.stem for p in Path(folder).glob("*.txt") if p.stem != "report")
        raise FileNotFoundError(f"{path}: no such split; this dataset has {', '.join(known) or 'none'}")
    return path.read_text(encoding="utf-8").split()


@dataclass
class Report:
    """Clips (or captioned parts) that a dataset left out, and why."""

    skipped: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, reason: str) -> None:
        self.skipped[name] = reason

    def __str__(self) -> str:
        """'5 left out: 3 too short (a, b, c), 2 missing (d, e)'; reasons by their words before a colon."""
        kinds = Counter(reason.partition(":")[0] for reason in self.skipped.values())
        parts = []
        for kind, count in kinds.most_common():
            names = islice((n for n, reason in self.skipped.items() if reason.partition(":")[0] == kind), 4)
            parts.append(f"{count} {kind} ({', '.join(names)}{', ...' if count > 4 else ''})")
        return f"{len(self.skipped)} left out{': ' + ', '.join(parts) if parts else ''}"


def readable_motions(clips: Clips, num_features: int, report: Report) -> Iterator[tuple[str, np.ndarray]]:
    """Readable clips without NaN, in split order."""
    for name in clips.names:
        try:
            motion = clips.motion(name)
        except (KeyError, OSError):
            report.add(name, "missing")
            continue
        except (ValueError, EOFError) as error:
            report.add(name, f"unreadable: {error}")
            continue
        if motion.ndim != 2 or motion.shape[1] != num_features:
            report.add(name, f"of another width: shape {motion.shape}, expected (T, {num_features})")
        elif not np.isfinite(motion).all():
            report.add(name, "with NaN")
        else:
            yield name, motion


def original_name(name: str) -> str | None:
    """The clip whose mirror image has this name (M000123, M/KIT/x, folder/M000123, x_mirrored); None for other names."""
    folder, slash, stem = name.rpartition("/")
    if stem.endswith("_mirrored"):
        return name.removesuffix("_mirrored")
    if name.startswith("M/"):
        return name[2:]
    return f"{folder}{slash}{stem[1:]}" if stem.startswith("M") and len(stem) > 1 else None


def mirrored_twins(names: Sequence[str]) -> set[str]:
    """Of the names, those of mirrored clips whose original is among them."""
    known = set(names)
    return {name for name in known if original_name(name) in known}
