"""LaMP-BertScore of text-to-motion models (Li et al. 2025, §4): a model that describes motion looks at what they make, and its
words are compared with what was asked for.
"""

from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np

from data_loaders.corpus import Corpus
from evaluations.bert_score import bert_scorer
from evaluations.captions import caption_set, motion_bertscore, whole_motions
from evaluations.evaluation_set import real_set
from evaluations.metrics import Interval, mean_interval
from evaluations.metrics_report import Measured
from evaluations.motion_sources import ModelSource
from evaluations.protocol import GENERATED, REAL, Generate
from evaluations.report import checkpoint_stamp
from evaluations.settings import REAL_MOTION
from model.capabilities import Describes, Generates
from model.checkpoints import from_pretrained
from model.registry import able
from protos.processes import pick_device
from protos.randomness import derive_seed


class MotionReader:
    """A captioner, the prompts and lengths of real motions that others are asked for, and what tells words apart."""

    def __init__(self, captioner: Path, dataset: str, count: int, seed: int, device: str = "auto"):
        """count: motions of the test split, drawn at random. FileError, or ValueError where the captioner reads others."""
        self.corpus, self.device, self.seed = Corpus.open(dataset), pick_device(device), seed
        self.captioner = from_pretrained(captioner, self.device, systems=able(Describes))
        self.captioner.features.require(self.corpus.features, "the captioner", f"dataset {self.corpus.folder}")
        self.data, self.scorer = caption_set(real_set(self.corpus), count, seed), bert_scorer()
        self.made_from, self.name = checkpoint_stamp(captioner), captioner.resolve().name

    def scored(self, measured: Measured, path: str) -> Measured:
        """What an evaluation of a checkpoint came to, with the score of its motions and of real ones."""
        scores = {REAL: self.of_real}
        if path != REAL_MOTION:
            model = from_pretrained(path, self.device, dataset_folder=self.corpus.folder, systems=able(Generates))
            scores[GENERATED] = self.of(ModelSource(model, self.corpus))
        made_from = measured.made_from | {"captioner": self.made_from}
        return replace(measured, lamp_bertscore=scores, described_by=str(self), made_from=made_from)

    @cached_property
    def of_real(self) -> Interval:
        """The score of real motions beside a caption of their own."""
        return self._score(whole_motions(self.data))

    def of(self, generate: Generate) -> Interval:
        """That of what is made for these captions."""
        captions = [entry.captions[0] for entry in self.data.entries]
        lengths = [len(motion) for motion in whole_motions(self.data)]
        return self._score(generate(captions, lengths, [derive_seed(self.seed, "described", i) for i in range(len(captions))]))

    def _score(self, motions: list[np.ndarray]) -> Interval:
        prompts = [entry.captions[0].text for entry in self.data.entries]
        return mean_interval(100 * motion_bertscore(self.captioner, motions, prompts, self.scorer))

    def __str__(self) -> str:
        return (f"LaMP-BertScore: what {self.name} sees in {len(self.data)} motions, beside their prompts, by {self.scorer}; "
                "times 100, ± 95 %.")  # fmt: skip
