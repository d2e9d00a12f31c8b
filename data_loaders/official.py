"""The official HumanML3D and KIT-ML folders, checked clip by clip and packed as they are (heading `published`)."""

import logging
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from data_loaders.corpus import Entry, Representation, Statistics, write_corpus
from data_loaders.skeleton import Skeleton, load_skeleton
from data_loaders.text import CaptionFileError, read_caption_file
from protos.files import write_atomically

log = logging.getLogger(__name__)
# Clips listed by the published splits, mirrored ones included. HumanML3D: 29,232 rows, of which 009707, 011059 and their
# mirrors have one frame and no features; 007975 and M007975 hold NaN.
PUBLISHED_COUNTS = {
    "humanml3d": {"train": 23384, "val": 1460, "test": 4384},
    "kit": {"train": 4888, "val": 300, "test": 830},
}
SKELETONS = {"humanml3d": "humanml", "kit": "kit"}
_ID = re.compile(r"M?\d{5,6}")  # of a clip of HumanML3D or KIT-ML, M: mirrored
SPLITS = ("train", "val", "test", "train_val", "all")


def published_name(representation: Representation, names: Iterable[str]) -> str | None:
    """humanml or kit where these are its clips (their ids, perhaps mirrored) as published; None for data of another kind,
    which may well have the same skeleton and heading."""
    skeleton = representation.skeleton
    if skeleton not in SKELETONS.values() or representation.heading != "published":
        return None
    if representation.fps != load_skeleton(skeleton).fps or not all(_ID.fullmatch(name) for name in names):
        return None
    return skeleton


def pack_official(source: Path, output: Path, name: str) -> None:
    """Packs an official dataset folder into `output/corpus` (the folder itself may be the output).

    Reports missing, NaN, short and caption-less clips in report.txt and warns where counts differ from the published ones.
    Raises FileNotFoundError or ValueError saying what of the layout is missing.
    """
    skeleton = load_skeleton(SKELETONS[name])
    for part in ("new_joint_vecs", "texts", "Mean.npy", "Std.npy", "train.txt", "test.txt"):
        if not (source / part).exists():
            raise FileNotFoundError(f"{source / part} is missing: --input must be the official {name} folder, unpacked")
    mean, std = (np.load(source / file, allow_pickle=False).astype(np.float32) for file in ("Mean.npy", "Std.npy"))
    for file, array in (("Mean.npy", mean), ("Std.npy", std)):
        if array.shape != (skeleton.num_features,):
            raise ValueError(f"{source / file}: shape {array.shape}, expected ({skeleton.num_features},) for {name}")
    splits = {s: (source / f"{s}.txt").read_text().split() for s in SPLITS if (source / f"{s}.txt").is_file()}
    names = list(dict.fromkeys(clip for listing in splits.values() for clip in listing))
    dropped: dict[str, str] = {}
    representation = Representation(skeleton.name, skeleton.fps, "published")
    output.mkdir(parents=True, exist_ok=True)
    entries = read_entries(source, names, skeleton, dropped)
    write_corpus(output, entries, representation, Statistics(mean, std, representation))
    if output.resolve() != source.resolve():
        for split, listing in splits.items():
            write_atomically(output / f"{split}.txt", "".join(f"{clip}\n" for clip in listing))
    for split, expected in PUBLISHED_COUNTS[name].items():
        found = len(splits.get(split, ()))
        if found != expected:
            log.warning("%s lists %d clips, the published one %d", split, found, expected)
    lines = [f"{len(names)} clips listed, {len(names) - len(dropped)} packed, {len(dropped)} dropped"]
    lines += [f"{clip}: {reason}" for clip, reason in sorted(dropped.items())]
    write_atomically(output / "report.txt", "\n".join(lines) + "\n")
    log.info("%s (%s)", lines[0], output / "report.txt")


def read_entries(source: Path, names: list[str], skeleton: Skeleton, dropped: dict[str, str]) -> Iterator[Entry]:
    """Usable clips one by one; `dropped` collects the others with the reason."""
    from tqdm import tqdm

    for name in tqdm(names, desc="clips", unit="clip", disable=None):
        path = source / "new_joint_vecs" / f"{name}.npy"
        try:
            features = np.load(path, allow_pickle=False)
            captions = read_caption_file(source / "texts" / f"{name}.txt")
        except FileNotFoundError as error:
            dropped[name] = f"{error.filename or error} is missing"
            continue
        except (ValueError, CaptionFileError, EOFError) as error:
            dropped[name] = str(error)
            continue
        if features.ndim != 2 or features.shape[1] != skeleton.num_features:
            dropped[name] = f"{path} has shape {features.shape}, expected (T, {skeleton.num_features})"
        elif len(features) < 2:
            dropped[name] = f"{path} has {len(features)} frame(s), expected at least 2"
        elif not np.isfinite(features).all():
            dropped[name] = f"{path} holds NaN"
        else:
            yield Entry(name, features, captions)
