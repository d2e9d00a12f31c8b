"""A stored gallery: unit vectors of many motions and of their captions, with where each came from; made once, searched often.

Its files are described in gallery_files.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from protos.names import shown
from sample.gallery_files import REMEDY, Clip, Content, GalleryError, read_all, require_free, write_all
from sample.search import unit_rows

log = logging.getLogger(__name__)
LONGEST_NAME, MOST_COMPARED = 100, 20_000  # letters and clips among which a name that is near to a wrong one is looked for


class Made(Protocol):
    """What tells a model's vectors from those of another: `TextMotionSpace`."""

    fingerprint: str
    earlier_fingerprint: str
    dim: int


@dataclass
class Gallery:
    """Unit vectors (N, C) of `clips` and (M, C) of `texts`, the distinct captions; `text_vectors` has no rows where no
    search among captions was wanted.

    `model` and `fingerprint` say what made them; `files`: how each motion file was read, and by what to tell that a file
    or a dataset has changed since. `arrays`: names of the files with the vectors.
    """

    model: str
    fingerprint: str
    fps: float
    vectors: np.ndarray
    clips: list[Clip] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    text_vectors: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float16))
    files: dict[str, dict] = field(default_factory=dict)
    folder: Path | None = None
    arrays: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.clips)

    def captions(self, row: int) -> list[str]:
        return [self.texts[i] for i in self.clips[row].texts]

    def of_file(self, clip: Clip) -> bool:
        """Whether a clip is of a motion file, not of a dataset."""
        return "motion_fps" in self.files.get(clip.source, ())

    def row(self, given: str) -> int:
        """The first row of a name, of a motion file, or of DATASET_FOLDER/NAME; says what else it could have meant.
        GalleryError where it is not there."""
        rows = [i for i, clip in enumerate(self.clips) if clip.name == given]
        if not rows:
            path = str(Path(given).absolute())
            rows = [i for i, clip in enumerate(self.clips) if path in (clip.source, f"{clip.source}/{clip.name}")]
        if not rows:
            import difflib

            names = [clip.name[:LONGEST_NAME] for clip in self.clips[:MOST_COMPARED]]
            near = difflib.get_close_matches(given[:LONGEST_NAME], names, 4)
            raise GalleryError(f"no motion {shown(given)} in this gallery" + (f" (near: {', '.join(near)})" if near else ""))
        if len(rows) > 1:
            clip = self.clips[rows[0]]
            where = clip.source if self.of_file(clip) else f"{clip.source}/{clip.name}"
            sources = len({self.clips[i].source for i in rows})
            log.warning("%s stands for %d motions or parts here: taken is %s from %.2f to %.2f s%s", given, len(rows), where,
                        clip.start, clip.end, "; for another one give its path" if sources > 1 else "")  # fmt: skip
        return rows[0]

    def made_by(self, space: Made) -> bool:
        return self.fingerprint == space.fingerprint or self.fingerprint == space.earlier_fingerprint

    def require(self, space: Made, what: str) -> None:
        """GalleryError unless `what`, the model behind `space`, made the gallery."""
        if not self.made_by(space):
            raise GalleryError(f"{self.folder or 'the gallery'} was made with {self.model}, whose weights {what} does not have "
                               "(any more): run encode_dataset again into another folder")  # fmt: skip
        if self.vectors.shape[1] != space.dim:
            raise GalleryError(f"{self.folder or 'the gallery'} is damaged (vectors of {self.vectors.shape[1]} numbers, "
                               f"its model makes {space.dim}): {REMEDY}")  # fmt: skip

    def without(self, gone: set[tuple[str, str]]) -> "Gallery":
        """Without the clips of these (source, name), and without what is known of sources that have no clip left."""
        keep = [i for i, clip in enumerate(self.clips) if (clip.source, clip.name) not in gone]
        clips = [self.clips[i] for i in keep]
        left = {source for source, _ in gone} - {clip.source for clip in clips}
        files = {source: stamp for source, stamp in self.files.items() if source not in left}
        return Gallery(self.model, self.fingerprint, self.fps, self.vectors[keep], clips, self.texts, self.text_vectors, files,
                       self.folder)  # fmt: skip

    def extended(self, clips: Sequence[Clip], captions: Sequence[Sequence[str]], vectors: np.ndarray,
                 files: dict[str, dict]) -> "Gallery":
        """With further clips, what describes each, and their vectors (N, C). Captions that are new come last in `texts`."""
        place = {text: i for i, text in enumerate(self.texts)}
        added = [clip._replace(texts=tuple(place.setdefault(text, len(place)) for text in dict.fromkeys(texts)))
                 for clip, texts in zip(clips, captions)]
        vectors = np.concatenate([self.vectors, as_stored(vectors)]) if len(added) else self.vectors
        return Gallery(self.model, self.fingerprint, self.fps, vectors, [*self.clips, *added], list(place), self.text_vectors,
                       {**self.files, **files}, self.folder)  # fmt: skip

    def compacted(self) -> "Gallery":
        """Without captions that describe no clip."""
        used = sorted({i for clip in self.clips for i in clip.texts})
        place = {old: new for new, old in enumerate(used)}
        known = [i for i in used if i < len(self.text_vectors)]  # new captions come last
        clips = [clip._replace(texts=tuple(place[i] for i in clip.texts)) for clip in self.clips]
        return Gallery(self.model, self.fingerprint, self.fps, self.vectors, clips, [self.texts[i] for i in used],
                       self.text_vectors[known], self.files, self.folder)  # fmt: skip

    def save(self, folder: Path) -> None:
        """Writes the folder; a gallery of ours that is there is replaced, anything else is not."""
        require_free(folder)
        content = Content(self.model, self.fingerprint, self.fps, self.clips, self.texts, self.files)
        self.arrays = write_all(Path(folder), content, self.vectors, self.text_vectors)

    @staticmethod
    def load(folder: Path) -> "Gallery":
        """GalleryError says what is absent or damaged."""
        content, vectors, text_vectors = read_all(Path(folder))
        return Gallery(content.model, content.fingerprint, content.fps, vectors, content.clips, content.texts, text_vectors,
                       content.files, Path(folder), content.arrays)  # fmt: skip


def as_stored(vectors: np.ndarray) -> np.ndarray:
    """Unit rows in half precision: a cosine is then off by less than 0.001."""
    return unit_rows(np.asarray(vectors, np.float32)).astype(np.float16)
