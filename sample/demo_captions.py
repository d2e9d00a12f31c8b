"""What the demo says of motion files, by models that describe motion. As `demo_service`, it knows no interface, and many threads
may call at once.
"""

import logging
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from data_loaders.corpus import Motion
from model.capabilities import CAPTIONING, Describes
from model.checkpoints import from_pretrained, read_config
from model.registry import able, holding
from protos.confined import Confined
from protos.options import one_line
from protos.processes import pick_device
from sample.captions import stretches
from sample.demo_maker import CHECKPOINT_FOLDERS, UploadReading, checkpoint_folders, joints_in
from sample.demo_uploads import AT_ONCE, MEGABYTES, SECONDS, read_actor
from sample.generation import CAPTIONER

log = logging.getLogger(__name__)
LONGEST = 60.0  # seconds of a motion that is described


class Described(NamedTuple):
    """A motion, and what each stretch of it shows: when, empty of a motion as a whole, and in which words."""

    motion: Motion
    said: list[tuple[str, str]]

    def lines(self) -> str:
        """For people."""
        return "\n".join(f"{when}: {words}" if when else words for when, words in self.said)


def captioners(roots: Sequence[Path] = CHECKPOINT_FOLDERS) -> dict[str, Path]:
    """Checkpoints of models that describe motion, by name, that which comes with the code first; a damaged one is named."""
    found = {}
    for name, folder in checkpoint_folders((CAPTIONER,), roots):
        try:
            if holding(folder) in able(Describes):
                read_config(folder)
                found[name] = folder
        except (ValueError, OSError) as error:
            log.warning("%s is left out of the checkpoints that describe motion: %s", folder, one_line(error)[:300])
    return found


class Describer:
    """Captions of motion files by any of the checkpoints; the model used last stays in memory."""

    def __init__(self, checkpoints: dict[str, Path], device: str = "auto", max_upload: float = 16.0):
        """max_upload: largest file that is read, in MB."""
        self.checkpoints, self.device, self.max_upload = checkpoints, pick_device(device), max_upload
        self.read_actor = Confined(read_actor, SECONDS, MEGABYTES, AT_ONCE)
        self._networks = threading.Lock()
        self._loaded: tuple[tuple, Describes | None] = ((), None)

    def caption(self, path: Path, checkpoint: str, reading: UploadReading | None = None) -> Described:
        """The motion of the one person in a .npy (joints) or .bvh file, of at most LONGEST seconds, and what `sample.caption`
        says of it. ValueError in one line."""
        folder, path = self.checkpoints.get(checkpoint), Path(path)
        if folder is None:
            raise ValueError("this checkpoint is not on the list")
        features = read_config(folder)[1].features
        longest = round(LONGEST * features.fps)
        joints = joints_in(self.read_actor, path, features, longest, reading or UploadReading(), self.max_upload)
        with self._networks:
            model = self._open(folder)
            parts = stretches(model, "", joints[None])
            words = model.describe([rows for _, rows in parts], CAPTIONING)
        said = [(when.strip(), text) for (when, _), text in zip(parts, words, strict=True)]
        return Described(Motion(joints[None], features.fps, features.skeleton, captions=(said[0][1],)), said)

    def _open(self, folder: Path) -> Describes:
        """Read again where training has replaced it since."""
        key = folder, folder.stat().st_mtime_ns
        if self._loaded[0] != key:
            self._loaded = (), None  # two large models need not fit
            self._loaded = key, from_pretrained(folder, self.device, systems=able(Describes))
        return self._loaded[1]
