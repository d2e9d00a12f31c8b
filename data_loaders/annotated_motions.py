"""Training samples of a dataset in TMR's layout: a file with one of its captions, the motion exactly what that describes."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from data_loaders.amass_annotations import MAX_SECONDS, MIN_SECONDS, AnnotatedFile, AnnotationError
from data_loaders.amass_dataset import AmassDataset
from data_loaders.batch_plan import Sample, balanced_weights
from data_loaders.batches import TrainingItem, collate
from data_loaders.clips import Report
from data_loaders.humanml import Draws

if TYPE_CHECKING:
    from data_loaders.corpus import Batch

log = logging.getLogger(__name__)


class AnnotatedMotions:
    """The files of a split, as `TextMotionDataset` offers those of a corpus: `batch(samples, seed)` and what sampling needs.

    A draw takes one of a file's captions at random, so that files count alike however many captions they have; splits
    other than train give the first.
    """

    def __init__(self, data: AmassDataset, split: str, shortest: float = MIN_SECONDS, longest: float = MAX_SECONDS):
        """Captions of shortest to longest seconds. ValueError where nothing of the split can be used."""
        self.data, self.random = data, split == "train"
        self.report = Report()
        files = data.split(split, shortest, longest, self.report).values()
        self.files = [file for each in files if (file := self._readable(each))]
        if not self.files:
            raise ValueError(f"{data.folder}: nothing in split '{split}' can be used: {self.report}")
        log.info("%s: %d files; %s", split, len(self.files), self.report)

    def _readable(self, file: AnnotatedFile) -> AnnotatedFile | None:
        """The file with the captions that it has frames of, all of them finite."""
        found = []
        for annotation in file.annotations:
            try:
                motion = self.data.motion(file, annotation)
            except AnnotationError as error:
                self.report.add(annotation.seg_id, f"unreadable: {error}")
                continue
            if not len(motion):
                self.report.add(annotation.seg_id, "without a frame: the file ends before the caption begins")
            elif not np.isfinite(motion).all():
                self.report.add(annotation.seg_id, f"with NaN or infinite values: {file.path}")
            else:
                found.append(annotation)
        return replace(file, annotations=tuple(found)) if found else None

    def __len__(self) -> int:
        return len(self.files)

    @property
    def texts(self) -> list[str]:
        """All captions, each once."""
        return list(dict.fromkeys(annotation.text for file in self.files for annotation in file.annotations))

    def motions(self) -> Iterator[np.ndarray]:
        """Features (T, D) in their units of every captioned part, once."""
        for file in self.files:
            for annotation in {(each.start, each.end): each for each in file.annotations}.values():
                yield self.data.motion(file, annotation)

    def labels(self, key: str) -> list[str]:
        """A label of every file, such as content or style; '' where it has none."""
        return [str(file.labels.get(key, "")) for file in self.files]

    def weights(self, balance: float = 0.0) -> np.ndarray:
        """How often each file is to be drawn: rare contents are lifted by `balance`."""
        return balanced_weights(self.labels("content"), balance)

    def item(self, index: int, number: int, seed: int = 0) -> TrainingItem:
        """The sample of (index, number, seed)."""
        file = self.files[index]
        draws = Draws(np.random.default_rng((seed, number, index)))
        annotation = draws.choice(file.annotations) if self.random else file.annotations[0]
        motion = np.array(self.data.motion(file, annotation), np.float32)
        return TrainingItem(motion, annotation.text, file.key, index)

    def batch(self, samples: Sequence[Sample], seed: int = 0, pad_to: int | None = None) -> "Batch":
        """The samples of a step of a `BatchPlan` as a Batch."""
        return collate([self.item(sample.index, sample.number, seed) for sample in samples], pad_to)
