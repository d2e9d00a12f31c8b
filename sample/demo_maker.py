"""What the demo makes: motions from text, reactions to a motion, motions edited in words. As `demo_service`, it knows no
interface, and many threads may call at once.
"""

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data_loaders.corpus import Motion
from data_loaders.edit_grammar import parse_edits
from data_loaders.features import Features
from data_loaders.motion_files import write_joints
from model.capabilities import Decoding, Edits, Generates, Guidance, Reacts, Request
from model.checkpoints import from_pretrained, read_config
from model.registry import able, holding
from protos.confined import Confined, LimitError
from protos.files import file_name
from protos.options import one_line
from protos.processes import pick_device
from protos.randomness import derive_seed
from sample.demo_service import LONGEST_PROMPT, checked_prompt, number, require_upload, whole_number
from sample.demo_uploads import AT_ONCE, AUTO, LONGEST_FILE, MEGABYTES, SECONDS, read_actor
from sample.edits import NEUTRAL, edited_motions, planned
from sample.generation import IN2IN, PGR2M, REACTION, STARTER, frames_of, motions_for, unknown_prompts
from sample.reactions import actor_of, reactions_to

log = logging.getLogger(__name__)
MOST_MOTIONS = 4
STRONGEST_GUIDANCE, OWN_STRENGTHS = 15.0, Guidance()
CHECKPOINT_FOLDERS = (Path("checkpoints"), Path("save"))
DEPTH = 3  # of a checkpoint below them: save/<run>/<step>
FOR_DOWNLOAD = ("bvh", "glb", "vrma")  # of each motion, as far as their library is installed


class Checkpoint(NamedTuple):
    """A model that makes motion, on this disk. `guidance`: its own by text, None for a model without. `persons`: how many it
    makes; `reacts`: the second of two in answer to the first, `by_action` being how strongly; `edits`: whether it edits
    motion."""

    folder: Path
    seconds: float
    guidance: float | None
    persons: int = 1
    reacts: bool = False
    by_action: float = 1.0
    edits: bool = False


def motion_checkpoints(roots: Sequence[Path] = CHECKPOINT_FOLDERS) -> dict[str, Checkpoint]:
    """By name, the weights that come with the code first, then those below the folders."""
    folders = checkpoint_folders((STARTER, IN2IN, REACTION, PGR2M), roots)
    return {name: checkpoint for name, folder in folders if (checkpoint := _checkpoint(folder))}


def checkpoint_folders(shipped: Sequence[Path], roots: Sequence[Path]) -> list[tuple[str, Path]]:
    """Names and folders in which checkpoints may lie: those that come with the code first, then all below the roots."""
    places = [path for root in roots for path in sorted(
        path for depth in range(1, DEPTH + 1) for path in root.glob("/".join("*" * depth)) if path.is_dir())]  # fmt: skip
    known = [folder.resolve() for folder in shipped]
    return [(folder.name, folder) for folder in shipped] + [
        (folder.as_posix(), folder) for folder in places if folder.resolve() not in known
    ]  # fmt: skip


def _checkpoint(folder: Path) -> Checkpoint | None:
    """None for a folder that holds no model of motion from text or from another's motion; a damaged one is named."""
    try:
        if (holds := holding(folder)) is None or holds not in able(Generates) + able(Reacts):
            return None
        _, config = read_config(folder)
    except (ValueError, OSError) as error:
        log.warning("%s is left out of the checkpoints to make motions with: %s", folder, one_line(error)[:300])
        return None
    reacts, seconds = holds in able(Reacts), config.max_frames / config.features.fps
    if not (config.reads_text or reacts):
        return None
    by_action = config.guidance.action if reacts else 1.0
    edits = holds in able(Edits)
    return Checkpoint(folder, seconds, config.own_guidance, config.features.persons, reacts, by_action, edits)


class UploadReading(NamedTuple):
    """How a motion file of a visitor is read: one of SKELETONS, frames per second of joints in a .npy file (None: the model's),
    and where it begins, in seconds."""

    skeleton: str = AUTO
    fps: float | None = None
    start: float = 0.0


class Maker:
    """Motions from text, reactions to a motion and edits of one, by any of the checkpoints; the model used last stays in
    memory."""

    def __init__(self, checkpoints: dict[str, Checkpoint], device: str = "auto", max_upload: float = 16.0):
        """max_upload: largest file to react to or to edit, in MB."""
        self.checkpoints, self.device, self.max_upload = checkpoints, pick_device(device), max_upload
        self.read_actor = Confined(read_actor, SECONDS, MEGABYTES, AT_ONCE)
        self._networks = threading.Lock()
        self._loaded: tuple[tuple, Generates | Reacts | None] = ((), None)

    def of_persons(self, persons: int) -> dict[str, Checkpoint]:
        """The checkpoints that make motions of so many people from text."""
        return {name: each for name, each in self.checkpoints.items() if each.persons == persons and not each.reacts}

    def editing(self) -> dict[str, Checkpoint]:
        """The checkpoints with which motion is edited."""
        return {name: each for name, each in self.checkpoints.items() if each.edits}

    def reacting(self) -> dict[str, Checkpoint]:
        """The checkpoints that react."""
        return {name: each for name, each in self.checkpoints.items() if each.reacts}

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
        chosen = self._chosen(checkpoint, reacts=False)
        number(seconds, 0.2, chosen.seconds, "seconds")
        seeds = seeds_of(seed, count)
        if guidance is not None:
            guidance = number(guidance, 0, STRONGEST_GUIDANCE, "guidance")
        with self._networks:
            networks = self._open(chosen)
            frames = frames_of(seconds, networks.features.fps, networks.config.max_frames)
            own = guidance == chosen.guidance  # then also what a model of several texts does with each
            decoding = Decoding(None if own or chosen.guidance is None else guidance)
            requests = [Request(prompt, frames, seed, individual_texts=about_each) for seed in seeds]
            return motions_for(networks, requests, decoding)

    def react(self, path: Path, prompt: str = "", seed: int = 10, count: int = 1, guidance: Guidance = OWN_STRENGTHS,
              checkpoint: str = "reaction", reading: UploadReading | None = None) -> list[Motion]:
        """As `sample.react` makes them with --seed and --num_repetitions, of the person in a .npy (joints) or .bvh file.

        prompt: what the two do together, may be empty. reading: how the file is read.
        """
        prompt = checked_prompt(prompt) if (prompt or "").strip() else ""
        chosen, reading, path = self._chosen(checkpoint, reacts=True), reading or UploadReading(), Path(path)
        seeds = seeds_of(seed, count)
        for strength in (guidance.together, guidance.action):
            if strength is not None:
                number(strength, 0, STRONGEST_GUIDANCE, "guidance")
        joints, features = self._read(path, chosen, reading)
        actor = actor_of(joints, features, round(chosen.seconds * features.fps), path.name)
        with self._networks:
            requests = [Request(prompt, len(actor.joints), seed) for seed in seeds]
            return reactions_to(self._open(chosen), actor, requests, Decoding(guidance))

    def edit(self, path: Path, edits: str, seed: int = 10, count: int = 1, checkpoint: str = "pgr2m",
             reading: UploadReading | None = None) -> tuple[list[Motion], str]:  # fmt: skip
        """The motion in a .npy (joints) or .bvh file, and as `sample.edit` edits it; and what becomes of its codes."""
        if len(edits or "") > LONGEST_PROMPT:
            raise ValueError(f"the edits have {len(edits)} characters, at most {LONGEST_PROMPT} are read: shorten them")
        chosen, reading, path = self._chosen(checkpoint, reacts=False), reading or UploadReading(), Path(path)
        if not chosen.edits:
            raise ValueError("motion cannot be edited with this checkpoint")
        parse_edits(edits or "")
        seeds, (joints, features) = seeds_of(seed, count), self._read(path, chosen, reading)
        plan = planned(joints, features, edits, path.name)
        with self._networks:
            requests = [Request(NEUTRAL, len(joints), seed) for seed in seeds]
            made = edited_motions(self._open(chosen), plan, requests)
        return [replace(plan.motion, captions=("before",)), *made], plan.told()

    def _read(self, path: Path, chosen: Checkpoint, reading: UploadReading) -> tuple[np.ndarray, Features]:
        """Joints (T, J, 3) of the one person in a file at the rate of a checkpoint, at most as long as it makes, and its
        features. ValueError in one line."""
        features = read_config(chosen.folder)[1].features
        longest = round(chosen.seconds * features.fps)
        return joints_in(self.read_actor, path, features, longest, reading, self.max_upload), features

    def _chosen(self, name: str, reacts: bool) -> Checkpoint:
        chosen = self.checkpoints.get(name)
        if chosen is None or chosen.reacts != reacts:
            raise ValueError("this checkpoint is not on the list")
        return chosen

    def outside(self, prompt: str, checkpoint: str = "starter") -> str:
        """A line that the prompt lies outside what a checkpoint knows; empty where it does not, or that is not to be told."""
        chosen = self.checkpoints[checkpoint]
        with self._networks:
            return "".join(unknown_prompts(chosen.folder, [checked_prompt(prompt)], self._open(chosen)))

    def _open(self, checkpoint: Checkpoint) -> Generates | Reacts:
        """Read again where training has replaced it since."""
        key = checkpoint.folder, checkpoint.folder.stat().st_mtime_ns
        if self._loaded[0] != key:
            self._loaded = (), None  # two large models need not fit
            self._loaded = key, from_pretrained(checkpoint.folder, self.device, systems=able(Generates) + able(Reacts))
        return self._loaded[1]


def joints_in(
    read: Confined, path: Path, features: Features, longest: int, reading: UploadReading, max_upload: float
) -> np.ndarray:
    """Joints (T, J, 3) of the one person in a visitor's file, read by a confined `read_actor` as features are made of, at most
    `longest` frames. max_upload: MB. ValueError in one line."""
    fps = features.fps if reading.fps is None else reading.fps
    require_upload(path, reading.skeleton, fps, max_upload)
    start = number(reading.start, 0, LONGEST_FILE, "start")
    try:
        return read(path, features, longest, reading.skeleton, fps, start)
    except LimitError as error:
        raise LimitError(f"{path.name}: {error}") from None


def seeds_of(seed: int, count: int) -> list[int]:
    """Of so many motions, as commands draw them from --seed. ValueError for numbers that are none."""
    seed, count = whole_number(seed, 0, 2**31 - 1, "seed"), whole_number(count, 1, MOST_MOTIONS, "motions")
    return [derive_seed(seed, "sample", 0, repetition) for repetition in range(count)]


def write_downloads(folder: Path, motions: Sequence[Motion], seed: int) -> list[Path]:
    """An mp4 and a page of the motions side by side; of each its joints in metres as npy, and what other programs read."""
    from visualize.formats import missing
    from visualize.video import write_video
    from visualize.web_viewer import write_viewer
    from visualize.writing import write_motion

    name = f"{file_name(motions[0].captions[0] if motions[0].captions else '')}_seed{int(seed)}"
    written = [write_video(folder / f"{name}.mp4", motions), write_viewer(folder / f"{name}.html", motions)]
    formats = [each for each in FOR_DOWNLOAD if not missing(each)]
    own = [folder / (name if len(motions) == 1 else f"{name}_{i + 1}") for i in range(len(motions))]
    for path, motion in zip(own, motions):
        written += write_motion(path, motion, formats)
    return written + [write_joints(path.with_name(f"{path.name}.npy"), motion) for path, motion in zip(own, motions)]
