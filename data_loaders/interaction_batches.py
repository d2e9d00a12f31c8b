"""Training samples of people in one world: a sentence, a window, who comes first, where they start; and their mirror image.

As the released loaders make them (Liang et al. 2024; Ruiz-Ponce et al. 2024), with the texts that belong to the people. Nothing
here keeps a state: as in `data_loaders.batches`, a sample follows from the seed, its number and its index.
"""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from data_loaders import interhuman_features
from data_loaders.batch_plan import Drawn, balanced_weights
from data_loaders.batches import TrainingItem, WindowBatches, collate
from data_loaders.clips import LeftOut, clip_name
from data_loaders.corpus import Batch, Corpus, require_finite, span_frames
from data_loaders.features import FeaturesMismatch
from data_loaders.humanml import LoaderDraws
from data_loaders.interhuman_features import Floor
from data_loaders.text import Caption, mirror_text
from protos.randomness import derive_seed

log = logging.getLogger(__name__)
MAX_FRAMES = 299  # rows of a window of 300 frames, the last of which has no velocity
MIN_FRAMES = 14
STRANGERS_APART = 1.5  # metres


@dataclass(frozen=True)
class Making:
    """How samples are made of clips.

    individuals: whether each person's own text comes with them, without which a clip is left out. exchange: whether people change
    places in half of the draws. second_exchange: InterGen's, in half of the draws, of people in their final frame, so that either
    may be the one that it belongs to. published_pairing: in2IN's loader as released, which gives a clip the mirrored texts of the
    other person, its mirror image the plain ones, and leaves texts where they are when people change places. floor: what stands
    on height 0, by default each person's lowest joint of a window for data as published, the recording's floor else. spread: one
    person starts up to so many metres from the origin and faces anywhere, as the people of a pair do; 0: at the origin.
    """

    individuals: bool = False
    exchange: bool = True
    second_exchange: bool = False
    published_pairing: bool = False
    floor: Floor | None = None
    spread: float = 0.0
    mirror_text: Callable[[str], str] = mirror_text


class InteractionDraws(LoaderDraws):
    """The random choices of a loader of several people."""

    def flip(self) -> bool:
        """Heads in half of the draws."""
        return bool(self.generator.random() > 0.5)

    def placement(self, spread: float) -> tuple[float, tuple[float, float]]:
        """An angle (radians) and a place (x, z) in a square about the origin, `spread` metres to each side."""
        angle, x, z = self.generator.uniform(-1, 1, 3)
        return math.pi * angle, (spread * x, spread * z)


class Example(NamedTuple):
    """Rows start..stop of a clip, or their mirror image, and sentences of which a draw takes one: of all, of each person."""

    clip: int
    start: int
    stop: int
    mirrored: bool
    texts: tuple[str, ...]
    individuals: tuple[tuple[str, ...], ...] = ()


class InteractionDataset:
    """Captioned motions of one or several people of a corpus split whose features hold places in a world.

    A clip's captions describe all of it or stretches, each of which is an example of its own. In train splits of several people
    each has a mirrored twin; corpora of one person hold theirs.
    """

    def __init__(
        self, corpus: Corpus, split: str = "train", making: Making = Making(),
        max_frames: int = MAX_FRAMES, min_frames: int = MIN_FRAMES, mirror: bool | None = None,
    ):  # fmt: skip
        """max_frames: rows of the longest window; shorter ones than min_frames are left out. mirror: whether twins are made.

        FeaturesMismatch for features of another kind, ValueError where nothing of the split can be used.
        """
        self.corpus, self.making, self.max_frames, self.features = corpus, making, max_frames, corpus.features
        if not self.features.in_world:
            raise FeaturesMismatch(f"{corpus.folder} has features of kind '{self.features.kind}', expected interhuman (two "
                                   "people) or interhuman_person: prepare it with --features")  # fmt: skip
        if making.individuals and self.features.persons == 1:
            raise FeaturesMismatch(f"{corpus.folder} is of one person: there are no texts of each")
        twins = self.features.persons > 1 and split == "train" if mirror is None else mirror
        self.left_out = LeftOut()
        listed = corpus.split(split)
        self._say_overlap(split, listed)
        plain = [each for clip in listed for each in self._examples(clip, min_frames)]
        self.examples = [each for one in plain for each in self._with_twin(one)[: 2 if twins else 1]]
        if not self.examples:
            raise ValueError(f"{corpus.folder}: nothing in split '{split}' can be trained on: {self.left_out}")
        log.info("%s: %d motions%s; %s", split, len(plain), ", each mirrored too" if twins else "", self.left_out)

    def _say_overlap(self, split: str, listed: Sequence[int]) -> None:
        """Warns where clips that are trained on are tested on, as a later list of InterHuman has it."""
        if split == "train" and (self.corpus.folder / "test.txt").is_file():
            shared = set(listed) & set(self.corpus.split("test"))
            if shared:
                log.warning("%s: %d of the %d clips to train on are in test.txt too (%s, ...): tests tell what was learnt",
                            self.corpus.folder, len(shared), len(listed), self.corpus.names[min(shared)])  # fmt: skip

    def _examples(self, clip: int, shortest: int) -> Iterator[Example]:
        """One of all captions of the whole clip and one of each stretch, with those of each person in it, or in the whole clip.

        Captions of published data of one person, HumanML3D, count as whole, as the prior's loader reads them.
        """
        name, persons = self.corpus.names[clip], self.features.persons
        plainly = persons == 1 and self.features.heading == "published"
        captions = self.corpus.captions(clip) if plainly else self.corpus.described(clip, person=None)
        spans = [None] if plainly else list(dict.fromkeys(_span(each) for each in captions if not each.person))
        if not any(not each.person for each in captions):
            self.left_out.add(name, "without caption")
            return
        for span in spans:
            start, stop = (0, int(self.corpus.lengths[clip])) if span is None else span_frames(*span, self.corpus.fps)
            start, stop = (max(0, min(frame, int(self.corpus.lengths[clip]))) for frame in (start, stop))
            of_span = [each for each in captions if plainly or _span(each) == span]
            texts = tuple(each.text for each in of_span if not each.person)
            own = tuple(
                tuple(each.text for each in of_span if each.person == person)
                or tuple(each.text for each in captions if each.person == person and each.whole)
                for person in range(1, persons + 1)
            )
            what = name if span is None else f"{name} at {span[0]:g}-{span[1]:g} s"
            if stop - start < shortest:
                self.left_out.add(what, f"too short: {stop - start} frames, {shortest} needed")
            elif self.making.individuals and not all(own):
                self.left_out.add(what, "without a text of each person")
            else:
                yield Example(clip, start, stop, False, texts, own if self.making.individuals else ())

    def _with_twin(self, example: Example) -> tuple[Example, Example]:
        """An example and its mirror image."""
        texts, *others = (tuple(map(self.making.mirror_text, each)) for each in (example.texts, *example.individuals))
        own, others = example.individuals, tuple(others)
        if self.making.published_pairing:
            own, others = others[::-1], own
        return example._replace(individuals=own), example._replace(mirrored=True, texts=texts, individuals=others)

    def __len__(self) -> int:
        return len(self.examples)

    def name(self, index: int) -> str:
        """Of an example: its clip's, of a mirrored twin that of a mirrored clip."""
        example = self.examples[index]
        return clip_name(self.corpus.names[example.clip], mirrored=example.mirrored)

    @property
    def lengths(self) -> np.ndarray:
        """Frames of every motion, at most `max_frames`: what batches are bucketed by."""
        return np.array([min(example.stop - example.start, self.max_frames) for example in self.examples])

    def weights(self, balance: float = 0.0) -> np.ndarray:
        """How often each motion is to be drawn: rare contents are lifted by `balance`."""
        return balanced_weights(self.labels("content"), balance)

    @property
    def texts(self) -> list[str]:
        """All sentences, of all people and of each, once."""
        groups = (group for example in self.examples for group in (example.texts, *example.individuals))
        return list(dict.fromkeys(text for group in groups for text in group))

    def motions(self) -> Iterator[np.ndarray]:
        """Features (T, persons * width) in their units of every motion that is no mirror image, as they lie."""
        places = dict.fromkeys((each.clip, each.start, each.stop) for each in self.examples if not each.mirrored)
        return (self.corpus[clip][start:stop] for clip, start, stop in places)

    def labels(self, key: str) -> list[str]:
        """A label of every motion's clip, such as content or style; '' where it has none."""
        return [str(self.corpus.labels[example.clip].get(key, "")) for example in self.examples]

    def item(self, index: int, number: int, seed: int = 0) -> TrainingItem:
        """The sample of (index, number, seed); `number` tells repetitions apart. FileError where features are not finite."""
        return self.made(index, InteractionDraws(np.random.default_rng((seed, number, index))))

    def made(self, index: int, draws: InteractionDraws) -> TrainingItem:
        """The sample of an example and choices, drawn in the order of the released loaders: sentences, window, who is first."""
        import torch

        example, making, features, name = self.examples[index], self.making, self.features, self.name(index)
        text = draws.choice(example.texts)
        individuals = tuple(draws.choice(own) for own in example.individuals)
        start, stop = example.start, example.stop
        if stop - start > self.max_frames:
            start = draws.randint(start, stop - self.max_frames - 1)
            stop = start + self.max_frames
        rows = torch.from_numpy(np.array(require_finite(self.corpus[example.clip][start:stop], name), np.float32))
        if example.mirrored:
            rows = interhuman_features.mirrored(rows, features)
        if features.persons > 1 and making.exchange and draws.flip():
            rows = interhuman_features.exchanged(rows, features)
            individuals = individuals if making.published_pairing else individuals[::-1]
        if features.persons > 1 or features.heading != "published":  # the prior's loader takes windows as they lie
            floor = making.floor or ("person" if features.heading == "published" else "kept")
            rows = interhuman_features.from_start(rows, features, floor)
        if features.persons > 1 and making.second_exchange and draws.flip():
            rows = interhuman_features.exchanged(rows, features)
            individuals = individuals if making.published_pairing else individuals[::-1]
        if features.persons == 1 and making.spread:
            rows = interhuman_features.moved(rows, features, *draws.placement(making.spread))
        return TrainingItem(rows.numpy(), text.strip(), name, index, tuple(own.strip() for own in individuals))

    def batch(self, samples: Sequence[Drawn], seed: int = 0, pad_to: int | None = None) -> Batch:
        """The samples of a step of a `BatchPlan` as a Batch: `texts` of all people, `role_texts` of each."""
        return collate([self.item(sample.index, sample.number, seed) for sample in samples], pad_to)


class WithStrangers:
    """`batches(step, part, parts)` of windows of two people, a share of which shows people who never met.

    Each of these is a window of a dataset of one person, put anywhere within `STRANGERS_APART` metres to each side of the origin
    and facing anywhere: what one person may do is then told by many recordings, where the other stands by few.
    """

    def __init__(
        self, corpus: Corpus, strangers: Corpus, window: int, batch_size: int, seed: int = 0, balance: float = 0.0,
        share: float = 0.5,
    ):  # fmt: skip
        """Of the train splits. FeaturesMismatch unless `strangers` has one of those whom `corpus` has two of, ValueError for
        batches that cannot hold both."""
        if corpus.features.kind != "interhuman":
            raise FeaturesMismatch(f"{corpus.folder} has features of kind '{corpus.features.kind}': strangers are put beside "
                                   "people of a dataset of two, interhuman")  # fmt: skip
        if batch_size < 2:
            raise ValueError("a batch of 1 cannot hold strangers beside people who met: give a larger batch size")
        of_one = replace(corpus.features, kind="interhuman_person")
        of_one.require(strangers.features, f"a person of {corpus.folder}", f"dataset {strangers.folder}")
        count = max(1, min(round(share * batch_size), batch_size - 1))
        self.seed, self.persons, self.of_one = seed, corpus.features.persons, of_one
        self.together = WindowBatches(corpus, "train", window, batch_size - count, seed, balance)
        self.alone = WindowBatches(strangers, "train", window, count * self.persons, seed, balance)

    def windows(self) -> Iterator[np.ndarray]:
        """Windows of people who did meet, one after the other."""
        return self.together.windows()

    def __call__(self, step: int, part: int, parts: int) -> Batch:
        import torch

        met, people = (batches(step, part, parts) for batches in (self.together, self.alone))
        lengths = people.lengths.unflatten(0, (-1, self.persons)).amin(1)  # of a pair, as long as both go on
        for row, (rows, length) in enumerate(zip(people.motion, lengths.repeat_interleave(self.persons).tolist())):
            seed = derive_seed(self.seed, "strangers", step, part * len(people.motion) + row)
            if length:
                placement = InteractionDraws(np.random.default_rng(seed)).placement(STRANGERS_APART)
                rows[:length] = interhuman_features.moved(rows[:length], self.of_one, *placement)
            rows[length:] = 0
        pairs = people.motion.unflatten(0, (-1, self.persons)).transpose(1, 2).flatten(2)  # (B, W, P D)
        motion, lengths = torch.cat([met.motion, pairs]), torch.cat([met.lengths, lengths])
        return Batch(motion, lengths, torch.arange(motion.shape[1])[None] < lengths[:, None])


def _span(caption: Caption) -> tuple[float, float] | None:
    """What a caption describes, in seconds; None: the whole clip."""
    return None if caption.whole else (caption.start, caption.end)
