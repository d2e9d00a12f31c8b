"""What the demo answers: searches in a gallery and motions from text. Knows no interface; every call stands alone.

Many threads may call at once. Networks are shared and read only, one call at a time computes with them; whatever else a
call needs it makes itself. What a visitor can put right is a ValueError or OSError.
"""

import logging
import math
import re
import threading
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_loaders.corpus import Corpus, Motion
from data_loaders.joint_mapping import shipped_mappings
from data_loaders.motion_files import motion_of, write_joints
from data_loaders.sources import Reading
from model.capabilities import Decoding, Generates, Request
from model.checkpoints import from_pretrained, read_config
from model.embedding import TextMotionSpace, open_space
from model.registry import able, holding
from protos.confined import Confined, LimitError
from protos.files import file_name
from protos.options import one_line
from protos.processes import pick_device
from protos.randomness import derive_seed
from protos.reading import FileError
from sample.demo_uploads import AT_ONCE as UPLOADS_AT_ONCE
from sample.demo_uploads import AUTO, LONGEST_FILE, MEGABYTES, SECONDS, read_upload
from sample.gallery import Gallery, require_place
from sample.gallery_encode import bring_up_to_date, gallery_folder
from sample.gallery_search import GallerySearch, Hit
from sample.gallery_sources import DatasetSource, FileSource, clip_motions, missing_line
from sample.generation import STARTER, TMR, clean_prompt, frames_of, motions_for, unknown_prompts
from sample.starter_motions import write_starter_motions

log = logging.getLogger(__name__)
LONGEST_PROMPT = 300  # characters
MOST_HITS, MOST_MOTIONS = 12, 4
STRONGEST_GUIDANCE = 15.0
ALL = "all"
SPLITS = ("train", "val", "test")
SUFFIXES = (".npy", ".bvh")  # not .npz: a small archive may unpack to anything
SKELETONS = (AUTO, *shipped_mappings())
CHECKPOINT_FOLDERS = (Path("checkpoints"), Path("save"))
MADE_HERE = Path("outputs") / "starter_motions"
DEPTH = 3  # of a checkpoint below them: save/<run>/<step>


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
        self._require_upload(path, skeleton, fps)
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

    def _require_upload(self, path: Path, skeleton: str, fps: float) -> None:
        """ValueError for what is not to be read, or not so."""
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError(f"{path.name}: expected a motion file, {' or '.join(SUFFIXES)}")
        if path.stat().st_size > self.max_upload * 1e6:
            raise ValueError(f"{path.name} is larger than {self.max_upload:g} MB")
        if skeleton not in SKELETONS:
            raise ValueError(f"skeleton: expected one of {', '.join(SKELETONS)}")
        number(fps, 1, 1000, "frames per second")

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


# ----------------------------------------------------------------------------------------------------- text to motion


class Checkpoint(NamedTuple):
    """A text-to-motion model on this disk. `guidance`: its own, None for a model without. `persons`: how many it makes."""

    folder: Path
    seconds: float
    guidance: float | None
    persons: int = 1


def text_to_motion_checkpoints(roots: Sequence[Path] = CHECKPOINT_FOLDERS) -> dict[str, Checkpoint]:
    """By name, the starter weights first, then those below the folders."""
    found = {}
    if checkpoint := _checkpoint(STARTER):
        found["starter"] = checkpoint
    for root in roots:
        places = [path for depth in range(1, DEPTH + 1) for path in root.glob("/".join("*" * depth)) if path.is_dir()]
        for folder in sorted(places):
            if folder.resolve() != STARTER.resolve() and (checkpoint := _checkpoint(folder)):
                found[folder.as_posix()] = checkpoint
    return found


def _checkpoint(folder: Path) -> Checkpoint | None:
    """None for a folder that holds no text-to-motion model; a damaged one is named."""
    try:
        if (holds := holding(folder)) is None or holds not in able(Generates):
            return None
        _, config = read_config(folder)
    except (ValueError, OSError) as error:
        log.warning("%s is left out of the checkpoints to make motions with: %s", folder, one_line(error)[:300])
        return None
    if not config.reads_text:
        return None
    return Checkpoint(folder, config.max_frames / config.features.fps, config.own_guidance, config.features.persons)


class Maker:
    """Motions from text by any of the checkpoints; the model used last stays in memory."""

    def __init__(self, checkpoints: dict[str, Checkpoint], device: str = "auto"):
        self.checkpoints, self.device = checkpoints, pick_device(device)
        self._networks = threading.Lock()
        self._loaded: tuple[tuple, Generates | None] = ((), None)

    def of_persons(self, persons: int) -> dict[str, Checkpoint]:
        """The checkpoints that make motions of so many people."""
        return {name: each for name, each in self.checkpoints.items() if each.persons == persons}

    def make(self, prompt: str, seconds: float = 6.0, seed: int = 10, count: int = 1, guidance: float | None = None,
             checkpoint: str = "starter", individuals: Sequence[str] = ()) -> list[Motion]:
        """As `sample.sample`, of two people `sample.interact`, make them with --seed and --num_repetitions.

        guidance None: the checkpoint's own. individuals: texts about each of two people, where there are any.
        """
        prompt = checked_prompt(prompt)
        each = [text for text in individuals if (text or "").strip()]
        if each and len(each) != len(individuals):
            raise ValueError("say what each of the two does, or neither")
        about_each = tuple(map(checked_prompt, each)) or None
        if checkpoint not in self.checkpoints:
            raise ValueError("this checkpoint is not on the list")
        chosen = self.checkpoints[checkpoint]
        number(seconds, 0.2, chosen.seconds, "seconds")
        seed = whole_number(seed, 0, 2**31 - 1, "seed")
        count = whole_number(count, 1, MOST_MOTIONS, "motions")
        if guidance is not None:
            guidance = number(guidance, 0, STRONGEST_GUIDANCE, "guidance")
        seeds = [derive_seed(seed, "sample", 0, repetition) for repetition in range(count)]
        with self._networks:
            networks = self._open(chosen)
            frames = frames_of(seconds, networks.features.fps, networks.config.max_frames)
            own = guidance == chosen.guidance  # then also what a model of several texts does with each
            decoding = Decoding(None if own or chosen.guidance is None else guidance)
            requests = [Request(prompt, frames, seed, individual_texts=about_each) for seed in seeds]
            return motions_for(networks, requests, decoding)

    def outside(self, prompt: str, checkpoint: str = "starter") -> str:
        """A line that the prompt lies outside what a checkpoint knows; empty where it does not, or that is not to be told."""
        chosen = self.checkpoints[checkpoint]
        with self._networks:
            return "".join(unknown_prompts(chosen.folder, [checked_prompt(prompt)], self._open(chosen)))

    def _open(self, checkpoint: Checkpoint) -> Generates:
        """Read again where training has replaced it since."""
        key = checkpoint.folder, checkpoint.folder.stat().st_mtime_ns
        if self._loaded[0] != key:
            self._loaded = (), None  # two large models need not fit
            self._loaded = key, from_pretrained(checkpoint.folder, self.device, systems=able(Generates))
        return self._loaded[1]


def write_downloads(folder: Path, motions: Sequence[Motion], seed: int) -> list[Path]:
    """An mp4 and a page of the motions side by side, and the joints in metres of each as npy."""
    from visualize.video import write_video
    from visualize.web_viewer import write_viewer

    name = f"{file_name(motions[0].captions[0] if motions[0].captions else '')}_seed{int(seed)}"
    written = [write_video(folder / f"{name}.mp4", motions), write_viewer(folder / f"{name}.html", motions)]
    for i, motion in enumerate(motions):
        written.append(write_joints(folder / (f"{name}.npy" if len(motions) == 1 else f"{name}_{i + 1}.npy"), motion))
    return written
