"""What two-person training reads: windows that start at the origin, whoever comes first, each person with the right text."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from data_loaders.batch_plan import BatchPlan
from data_loaders.batches import CaptionBatches
from data_loaders.corpus import Corpus
from data_loaders.corpus_writer import NewClip, write_corpus
from data_loaders.features import Features, FeaturesMismatch, Statistics
from data_loaders.interaction_batches import STRANGERS_APART, InteractionDataset, Making, WithStrangers
from data_loaders.interhuman_features import placement
from data_loaders.preparation import prepare
from data_loaders.read_recordings import PreparationSettings
from data_loaders.text import Caption
from evaluations.interaction_set import interaction_set
from evaluations.reaction_set import TrainingPairs
from model.text_encoders import with_text_features
from protos.reading import FileError
from tests.pairs import PAIR, greeting, meeting_corpus, pair_corpus, two_walkers, write_interhuman
from tests.synthetic import random_corpus, write_recordings

FRAMES = 400


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Corpus:
    return Corpus(meeting_corpus(tmp_path_factory.mktemp("pairs") / "corpus"))


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory) -> Corpus:
    """One clip of 399 rows, walkers."""
    folder = tmp_path_factory.mktemp("long") / "corpus"
    rows = PAIR.encode(torch.tensor(two_walkers(FRAMES), dtype=torch.float32)).numpy()
    write_corpus(folder, [NewClip("long", rows, [Caption("two walk")])], PAIR, Statistics(np.zeros(524), np.ones(524), PAIR))
    (folder / "train.txt").write_text("long")
    return Corpus(folder)


def people(item) -> torch.Tensor:
    return PAIR.joints(torch.from_numpy(item.motion))


def apart(joints: torch.Tensor) -> torch.Tensor:
    return (joints[0] - joints[1])[:, 0, [0, 2]].norm(dim=-1)


def test_every_sample_starts_with_person_one_at_the_origin_facing_forward(corpus):
    data = InteractionDataset(corpus)
    for index in range(0, len(data), 3):
        start = placement(people(data.item(index, 1))[0], corpus.skeleton)
        assert start.origin.abs().max() < 1e-4 and abs(start.facing - 1) < 1e-4


def test_a_window_has_at_most_299_rows_and_another_place_in_each_draw(long_clip):
    data = InteractionDataset(long_clip, making=Making(exchange=False), mirror=False)
    assert data.lengths.tolist() == [299]
    whole = apart(PAIR.joints(torch.from_numpy(np.array(long_clip[0]))))
    starts = set()
    for number in range(8):
        window = apart(people(data.item(0, number)))
        assert len(window) == 299
        gaps = [(window - whole[start : start + 299]).abs().max() for start in range(FRAMES - 300)]
        assert min(gaps) < 1e-3
        starts.add(int(np.argmin(gaps)))
    assert len(starts) > 3


def test_short_clips_and_clips_without_words_are_left_out_and_named(tmp_path):
    clips = {"short": (14, [Caption("two stand")]), "shortest": (15, [Caption("two stand")]), "silent": (40, [])}
    entries = [
        NewClip(name, PAIR.encode(torch.tensor(greeting(frames), dtype=torch.float32)).numpy(), captions)
        for name, (frames, captions) in clips.items()
    ]
    write_corpus(tmp_path, entries, PAIR, Statistics(np.zeros(524), np.ones(524), PAIR))
    (tmp_path / "train.txt").write_text("\n".join(clips))
    data = InteractionDataset(Corpus(tmp_path), mirror=False)
    assert [data.name(i) for i in range(len(data))] == ["shortest"]
    assert "1 too short (short)" in str(data.left_out) and "1 without caption (silent)" in str(data.left_out)


def test_clips_that_are_trained_on_and_tested_on_are_told(corpus, caplog):
    InteractionDataset(corpus, "val")
    assert "in test.txt too" not in caplog.text
    InteractionDataset(corpus)
    assert "12 of the 12 clips to train on are in test.txt too (pass00, ...)" in caplog.text


def test_texts_go_with_their_people(corpus):
    """Whoever raises the left hand is told to, also when people change places and in the mirror."""
    data = InteractionDataset(corpus, making=Making(individuals=True))
    left, right = corpus.skeleton.index("left_wrist"), corpus.skeleton.index("right_wrist")
    exchanged = set()
    for index in (i for i in range(len(data)) if data.name(i).startswith("hello")):
        for number in range(6):
            item = data.item(index, number)
            for person, text in zip(people(item), item.individuals, strict=True):
                higher = left if person[:, left, 1].max() > person[:, right, 1].max() else right
                assert ("left" in text) == (higher == left), (data.name(index), text)
            exchanged.add(item.individuals)
    assert len(exchanged) == 2


def test_train_samples_have_mirrored_twins_whose_texts_are_mirrored_by_whole_words(tmp_path):
    said = ["the brightest one spins counterclockwise, the other clockwise, to the left"]
    rows = PAIR.encode(torch.tensor(greeting(40), dtype=torch.float32)).numpy()
    write_corpus(tmp_path, [NewClip("a", rows, [Caption(said[0])])], PAIR, Statistics(np.zeros(524), np.ones(524), PAIR))
    for split in ("train", "test"):
        (tmp_path / f"{split}.txt").write_text("a")
    data = InteractionDataset(Corpus(tmp_path))
    assert [data.name(i) for i in range(2)] == ["a", "a@mirrored"] and len(InteractionDataset(Corpus(tmp_path), "test")) == 1
    assert data.texts[1] == "the brightest one spins clockwise, the other counterclockwise, to the right"


def test_published_pairing_gives_a_clip_the_mirrored_text_of_the_other_person(corpus):
    right, published = (InteractionDataset(corpus, making=Making(True, published_pairing=pairing)) for pairing in (False, True))
    index = next(i for i in range(len(right)) if right.name(i) == "hello01")
    left_hand, right_hand = ("a person raises the left hand",), ("a person raises the right hand",)
    assert right.examples[index].individuals == (left_hand, right_hand)
    assert published.examples[index].individuals == (left_hand, right_hand)  # the mirror image of the right hand is the left
    other = next(i for i in range(len(right)) if right.name(i) == "pass00")
    assert right.examples[other].individuals == (("one walks",), ("another walks",))
    assert published.examples[other].individuals == (("another walks",), ("one walks",))
    assert published.examples[other + 1].individuals == (("one walks",), ("another walks",))
    texts = {published.item(other, number).individuals for number in range(8)}
    assert texts == {("another walks", "one walks")}  # they stay when people change places


def test_people_are_exchanged_in_half_of_the_draws_and_once_more_on_request(corpus):
    index = 0  # walkers of different speeds: where the first one ends tells who it is
    for making, both in ((Making(), True), (Making(exchange=False), False)):
        data = InteractionDataset(corpus, making=making)
        ends = {round(float(people(data.item(index, number))[0, -1, 0, 2]), 2) for number in range(12)}
        assert len(ends) == (2 if both else 1)
    twice = InteractionDataset(corpus, making=Making(exchange=False, second_exchange=True))
    at_origin = {bool(placement(people(twice.item(index, number))[0], corpus.skeleton).origin.abs().max() < 1e-3)
                 for number in range(12)}  # fmt: skip
    assert at_origin == {True, False}


def test_data_as_published_put_each_on_the_floor_of_the_window_others_keep_it(tmp_path):
    prepare(PreparationSettings("interhuman", write_interhuman(tmp_path / "raw"), tmp_path / "out", floor="shared"))
    official = Corpus(tmp_path / "out")
    index = official.names.index("pass0")
    lowest = {}
    for floor in (None, "kept"):
        data = InteractionDataset(official, making=Making(exchange=False, floor=floor), mirror=False)
        example = next(i for i in range(len(data)) if data.examples[i].clip == index)
        lowest[floor] = people(data.item(example, 0))[..., 1].amin((1, 2)).tolist()
    assert lowest[None] == pytest.approx([0, 0], abs=2e-3) and lowest["kept"] == pytest.approx([0, 0.2], abs=2e-3)


def test_a_sample_follows_from_seed_number_and_index_alone(corpus):
    one, other = (InteractionDataset(corpus, making=Making(individuals=True)) for _ in range(2))
    for index in (0, 5):
        first, again = one.item(index, 7, seed=3), other.item(index, 7, seed=3)
        assert np.array_equal(first.motion, again.motion) and first[1:] == again[1:]
    assert any(not np.array_equal(one.item(0, 7, 3).motion, one.item(0, number, 3).motion) for number in range(8, 14))


def test_a_batch_brings_texts_of_all_and_of_each_and_their_features(corpus):
    data = InteractionDataset(corpus, making=Making(individuals=True))
    batch = CaptionBatches(data, 6, seed=1, lengths=data.lengths)(0, 0, 1)
    assert batch.motion.shape[0] == 6 and batch.motion.shape[2] == 524
    assert not batch.motion[~batch.mask].any() and batch.mask.sum(1).tolist() == batch.lengths.tolist()
    assert set(batch.role_texts) == {"individual1", "individual2"} and len(batch.role_texts["individual1"]) == 6

    class Encoder:
        def encode(self, texts):
            return tuple(texts)

    encoded = with_text_features(batch, {role: Encoder() for role in ("interaction", "individual1", "individual2")})
    assert encoded.text_features["interaction"] == tuple(batch.texts)
    assert encoded.text_features["individual2"] == tuple(batch.role_texts["individual2"])
    assert set(data.texts) >= {*batch.texts, *batch.role_texts["individual1"]}


def test_every_process_takes_its_part_of_a_step(corpus):
    data = InteractionDataset(corpus)
    alone, together = CaptionBatches(data, 4, seed=2), CaptionBatches(data, 2, seed=2)
    names = [name for part in range(2) for name in together(3, part, 2).names]
    assert names == alone(3, 0, 1).names
    assert [data.name(each.index) for each in BatchPlan(len(data), 4, 2).batch(3)] == names


def test_stretches_of_a_clip_are_samples_with_the_texts_of_each_person_in_them(tmp_path):
    rows = PAIR.encode(torch.tensor(two_walkers(121), dtype=torch.float32)).numpy()
    captions = [Caption("they meet", start=0, end=2), Caption("they part", start=2, end=4),
                Caption("one comes", end=2, person=1), Caption("another comes", end=2, person=2),
                Caption("one walks", person=1), Caption("another walks", person=2)]  # fmt: skip
    write_corpus(tmp_path, [NewClip("a", rows, captions)], PAIR, Statistics(np.zeros(524), np.ones(524), PAIR))
    (tmp_path / "train.txt").write_text("a")
    data = InteractionDataset(Corpus(tmp_path), making=Making(individuals=True), mirror=False)
    assert [(each.start, each.stop, each.texts, each.individuals) for each in data.examples] == [
        (0, 60, ("they meet",), (("one comes",), ("another comes",))),
        (60, 120, ("they part",), (("one walks",), ("another walks",))),
    ]  # fmt: skip


def test_one_person_in_262_columns_is_drawn_without_anybody_else(tmp_path):
    write_recordings(tmp_path / "raw")
    prepare(PreparationSettings("bandai_namco", tmp_path / "raw", tmp_path / "out", features="interhuman_person", workers=1))
    corpus = Corpus(tmp_path / "out")
    data = InteractionDataset(corpus, max_frames=30)
    assert len(data) == 8 and {"@mirrored" in data.name(i) for i in range(8)} == {False, True}
    item = data.item(0, 3)
    assert item.motion.shape == (30, 262) and item.individuals == ()
    start = placement(corpus.features.joints(torch.from_numpy(item.motion)), corpus.skeleton)
    assert start.origin.abs().max() < 1e-4 and abs(start.facing - 1) < 1e-4
    with pytest.raises(FeaturesMismatch, match="of one person"):
        InteractionDataset(corpus, making=Making(individuals=True))
    spread = InteractionDataset(corpus, making=Making(spread=2.0), max_frames=30)
    motions = [corpus.features.joints(torch.from_numpy(spread.item(0, number).motion)) for number in range(40)]
    starts = [placement(motion, corpus.skeleton) for motion in motions]
    places = torch.stack([start.origin for start in starts])
    assert 1.5 < places[:, [0, 2]].abs().max() <= 2.0 and places[:, 1].abs().max() < 1e-6
    assert abs(torch.stack([start.facing for start in starts]).mean()) < 0.4  # anywhere


def test_features_that_hold_no_world_are_refused(tmp_path):
    with pytest.raises(FeaturesMismatch, match="expected interhuman"):
        InteractionDataset(Corpus(random_corpus(tmp_path / "humanml")))


def test_data_that_are_not_finite_are_named_and_not_trained_on(tmp_path):
    rows = np.full((40, 524), np.nan, np.float32)
    write_corpus(tmp_path, [NewClip("broken", rows, [Caption("two")])], PAIR, Statistics(np.zeros(524), np.ones(524), PAIR))
    (tmp_path / "train.txt").write_text("broken")
    with pytest.raises(ValueError, match=r"broken: .*NaN"):
        InteractionDataset(Corpus(tmp_path)).item(0, 0)


@pytest.mark.parametrize("split", ["test", "train"])
def test_data_that_are_not_finite_are_named_and_not_judged_by(split, tmp_path):
    corpus = Corpus(pair_corpus(tmp_path / "pairs", train=3, held_out=2))
    name = (tmp_path / "pairs" / f"{split}.txt").read_text().split()[0]
    rows = np.load(tmp_path / "pairs" / "corpus" / "features.npy", mmap_mode="r+")
    _, start, _ = corpus.clips.place(corpus.position(name))
    rows[start + 1, 5] = np.inf
    rows.flush()
    damaged = Corpus(tmp_path / "pairs")
    with pytest.raises(FileError, match=rf"pairs: {name}.*NaN or infinite"):
        interaction_set(damaged) if split == "test" else TrainingPairs(damaged, "kept").joints


def test_a_corpus_whose_clips_all_lack_individual_texts_says_so(tmp_path):
    prepare(PreparationSettings("interhuman", write_interhuman(tmp_path / "raw", individuals=False), tmp_path / "out"))
    with pytest.raises(ValueError, match="without a text of each person"):
        InteractionDataset(Corpus(tmp_path / "out"), making=Making(individuals=True))
    assert Features(kind="interhuman").in_world


def test_strangers_are_windows_of_one_person_anywhere_beside_each_other_of_two(corpus, tmp_path):
    alone = Corpus(pair_corpus(tmp_path / "alone", train=6, held_out=3, features=replace(PAIR, kind="interhuman_person")))
    batches = WithStrangers(corpus, alone, window=16, batch_size=8, seed=3, share=0.75)
    batch, met = batches(5, 0, 1), batches.together(5, 0, 1)
    assert torch.equal(batch.motion[:2], met.motion) and batch.motion.shape == (8, 16, 524)
    assert batch.lengths.tolist() == [16] * 8 and batch.mask.all()
    single = batches.alone(5, 0, 1)
    for pair in range(6):
        joints = PAIR.joints(batch.motion[2 + pair])  # (2, T, J, 3)
        for person in range(2):
            own = alone.features.joints(single.motion[2 * pair + person])
            own = own[0] if own.ndim == 4 else own
            steps = [each.diff(dim=0).norm(dim=-1) for each in (joints[person], own)]
            assert (steps[0] - steps[1]).abs().max() < 1e-4  # moved as a whole
            assert (joints[person][..., 1] - own[..., 1]).abs().max() < 1e-5
    starts = torch.stack([PAIR.joints(batch.motion[2 + pair])[:, 0, 0] for pair in range(6)])
    assert 0.3 < starts[..., [0, 2]].abs().max() <= STRANGERS_APART + 1e-4 and len(starts[..., 0].flatten().unique()) == 12
    assert torch.equal(batches(5, 0, 1).motion, batch.motion) and not torch.equal(batches(6, 0, 1).motion, batch.motion)
    with pytest.raises(FeaturesMismatch, match="a person of"):
        WithStrangers(corpus, corpus, window=16, batch_size=8)
    with pytest.raises(FeaturesMismatch, match="of a dataset of two"):
        WithStrangers(alone, alone, window=16, batch_size=8)
    with pytest.raises(ValueError, match="a batch of 1"):
        WithStrangers(corpus, alone, window=16, batch_size=1)
    assert len(WithStrangers(corpus, alone, window=16, batch_size=3, share=0.01)(0, 0, 1).motion) == 3
