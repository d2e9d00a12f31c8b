"""What the demo answers to searches in a gallery, and what visitors may ask for. Knows no interface; every call stands alone.

Many threads may call at once. Networks are shared and read only, one call at a time computes with them; whatever else a
call needs it makes itself. What a visitor can put right is a ValueError or OSError.
"""

import logging
import math
import re
import threading
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_loaders.corpus import Corpus, Motion
from data_loaders.joint_mapping import shipped_mappings
from data_loaders.motion_files import motion_of
from data_loaders.sources import Reading
from model.embedding import TextMotionSpace, open_space
from protos.confined import Confined, LimitError
from protos.options import one_line
from protos.processes import pick_device
from protos.reading import FileError
from sample.demo_uploads import AT_ONCE as UPLOADS_AT_ONCE
from sample.demo_uploads import AUTO, LONGEST_FILE, MEGABYTES, SECONDS, read_upload
from sample.gallery import Gallery, require_place
from sample.gallery_encode import bring_up_to_date, gallery_folder
from sample.gallery_search import GallerySearch, Hit
from sample.gallery_sources import DatasetSource, FileSource, clip_motions, missing_line
from sample.generation import TMR, clean_prompt
from sample.starter_motions import write_starter_motions

log = logging.getLogger(__name__)
LONGEST_PROMPT = 300  # characters
MOST_HITS = 12
ALL = "all"
SPLITS = ("train", "val", "test")
SUFFIXES = (".npy", ".bvh")  # not .npz: a small archive may unpack to anything
SKELETONS = (AUTO, *shipped_mappings())
MADE_HERE = Path("outputs") / "starter_motions"


def checked_prompt(text: str | None) -> str:
    """PromptError for an empty prompt, ValueError for one that is too long."""
    if len(text or "") > LONGEST_PROMPT:
        raise ValueError(f"the text has {len(text)} characters, at most {LONGEST_PROMPT} are read: shorten it")
    return clean_prompt(text or "")


def whole_number(value: object, least: int, most: int, what: str) -> int:
    if not isinstance(value, int | float) or not math.isfinite(value) or value != int(value) or not least <= value <= most:
        raise ValueError(f"{what}: expected a whole number from {least} to {most}")
    return int(value)


def number(value: object, least: float, most: float, what: str) -> float:
    if not isinstance(value, int | float) or not least <= value <= most:  # NaN too
        raise ValueError(f"{what}: expected a number from {least:g} to {most:g}")
    return float(value)


def require_upload(path: Path, skeleton: str, fps: float, max_upload: float) -> None:
    """ValueError for a file that is not to be read, or not so. max_upload: MB."""
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path.name}: expected a motion file, {' or '.join(SUFFIXES)}")
    if path.stat().st_size > max_upload * 1e6:
        raise ValueError(f"{path.name} is larger than {max_upload:g} MB")
    if skeleton not in SKELETONS:
        raise ValueError(f"skeleton: expected one of {', '.join(SKELETONS)}")
    number(fps, 1, 1000, "frames per second")


def told(error: BaseException) -> str:
    """An error in a line for visitors, to whom the folders of this machine are no business."""
    return re.sub(r"(?<![\w./~])~?(?:/[^/\s:'\",]+)*/(?=[^/\s:'\",])", "", one_line(error))


# ------------------------------------------------------------------------------------------------------------- search


class Found(NamedTuple):
    """Hits with their motions, best first. `own`: the part of a motion file that was searched by. `missing` says which
    hits cannot be shown and are left out."""

    hits: list[Hit]
    motions: list[Motion]
    own: Motion | None = None
    missing: str = ""


class Finder:
    """A gallery with the model that made it."""

    def __init__(self, gallery: Gallery, space: TextMotionSpace, max_upload: float = 16.0):
        """max_upload: largest file to search by, in MB."""
        self.gallery, self.space, self.max_upload = gallery, space, max_upload
        self.finder = GallerySearch(gallery)
        self.read_upload = Confined(read_upload, SECONDS, MEGABYTES, UPLOADS_AT_ONCE)
        self._networks = threading.Lock()

    @cached_property
    def splits(self) -> dict[str, np.ndarray]:
        """Which rows (N,) belong to a split, of the splits that the clips' datasets have."""
        members: dict[str, set[tuple[str, str]]] = {}
        for source in {clip.source for clip in self.gallery.clips}:
            if not Path(source).is_dir():  # a file
                continue
            try:
                data = Corpus.open(source)
            except (ValueError, OSError) as error:
                log.warning("%s cannot be read, its motions will not be shown: %s", source, one_line(error))
                continue
            for split in SPLITS:
                try:
                    found = data.split(split)
                except (ValueError, OSError):
                    continue
                members.setdefault(split, set()).update((source, data.names[i]) for i in found)
        rows = {split: np.array([(clip.source, clip.name) in names for clip in self.gallery.clips])
                for split, names in members.items()}
        return {split: rows[split] for split in SPLITS if split in rows and rows[split].any()}

    def examples(self, count: int = 4) -> list[str]:
        """Captions from all over the gallery."""
        texts = [text for text in self.gallery.texts if len(text) <= LONGEST_PROMPT]
        return texts[:: max(1, len(texts) // count)][:count]

    def by_text(self, text: str, count: int = 6, split: str = ALL) -> Found:
        text = checked_prompt(text)
        self._check(count, split)
        with self._networks:
            query = self.space.encode_text([text])[0]
        return self._nearest(query, count, split)

    def by_file(self, path: Path, count: int = 6, split: str = ALL, skeleton: str = AUTO, fps: float | None = None,
                start: float = 0.0) -> Found:
        """By a .npy file (joints or features; `fps` of joints) or a .bvh file (`skeleton`: one of SKELETONS), from `start`
        seconds on as long as the model's longest training motion."""
        self._check(count, split)
        path, fps = Path(path), self.space.features.fps if fps is None else fps
        require_upload(path, skeleton, fps, self.max_upload)
        start = number(start, 0, LONGEST_FILE, "start")
        try:
            limits = self.space.frame_limits[0], self.space.longest_trained
            part = self.read_upload(path, self.space.features, limits, skeleton, fps, start)
        except LimitError as error:
            raise LimitError(f"{path.name}: {error}") from None
        with self._networks:
            query = self.space.encode_motion([part])[0]
        return self._nearest(query, count, split)._replace(own=motion_of(part, self.space.features))

    def _check(self, count: int, split: str) -> None:
        whole_number(count, 1, MOST_HITS, "hits")
        if split != ALL and split not in self.splits:
            raise ValueError(f"this gallery has no split of that name: {', '.join((ALL, *self.splits))}")

    def _nearest(self, query: np.ndarray, count: int, split: str) -> Found:
        hits = self.finder.motions(query, int(count), among=None if split == ALL else self.splits[split])
        rows = [hit.row for hit in hits]
        motions = clip_motions(self.gallery, rows, self.space)
        return Found([hit for hit in hits if hit.row in motions], list(motions.values()),
                     missing=missing_line(self.gallery, rows, motions))  # fmt: skip


def open_search(gallery: Path | None = None, model_path: Path | None = None, dataset: str | None = None, split: str = "all",
                max_upload: float = 16.0, device: str = "auto") -> Finder | None:
    """The gallery of a folder, made first where it is absent and a model or a dataset says of what.

    Where nothing is named: of the data that the shipped TMR weights were trained on, where it is prepared on this machine,
    else of motions that the starter weights make. None where those weights are not here.
    """
    if model_path is None and (gallery is None or dataset is not None):
        if not (TMR / "config.json").is_file():
            return None
        model_path = TMR
    space = None
    if model_path is not None:
        space = open_space(model_path, pick_device(device))
        wanted, made = dataset or space.model.config.dataset, None
        if dataset is None and gallery is None and not is_prepared(wanted):
            made = MADE_HERE
        own = (None, made) if made else (wanted, None)
        gallery = gallery or own_gallery(gallery_folder(model_path, *own), space)
        absent = not (gallery / "gallery.json").is_file()
        if made and not any(made.glob("*.npy")):
            log.info("%s is not on this machine: the gallery will be of motions that the starter weights make, once", wanted)
            write_starter_motions(made, device)
            absent = True  # a gallery that is there is of other files
        if absent:
            log.info("making the gallery %s, once", gallery)
            require_place(gallery)
            source = FileSource(made, space, Reading()) if made else DatasetSource(wanted, split, space)
            bring_up_to_date(gallery, source, model_path)
    try:
        found = Gallery.load(gallery)
    except FileError as error:
        raise FileError(f"{error}; or let the demo make it: --model_path MODEL --dataset DATASET") from None
    space = space or open_space(found.model, pick_device(device))
    found.require(space, str(model_path or found.model))
    return Finder(found, space, max_upload)


def own_gallery(folder: Path, space: TextMotionSpace) -> Path:
    """The default folder, or where a gallery of other weights lies there, one that is named after these."""
    try:
        ours = Gallery.load(folder).fingerprint == space.fingerprint
    except FileError:
        return folder
    return folder if ours else folder.with_name(f"{folder.name}-{space.fingerprint[:8]}")


def is_prepared(dataset: str) -> bool:
    try:
        Corpus.open(dataset)
    except (ValueError, OSError):
        return False
    return True
