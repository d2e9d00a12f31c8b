"""Which clips count, how they are cropped, and that training batches can be drawn again."""

import random
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from data_loaders import corpus as corpora
from data_loaders.batch_plan import BatchPlan, balanced_weights
from data_loaders.batches import CaptionBatches, TextMotionDataset, collate, fitting_window
from data_loaders.clips import Clips
from data_loaders.corpus_writer import NewClip, write_corpus
from data_loaders.features import Features
from data_loaders.glove import Words, padded_tokens
from data_loaders.humanml import (
    LoaderDraws,
    crop,
    select_entries,
)
from data_loaders.text import Caption, write_caption_file
from evaluations.evaluation_set import real_set
from protos.flags import at_most
from tests.golden.published_loaders import (
    EvaluationDataset,
    WindowDataset,
    clips_of_folder,
    collate_evaluation,
    crop_for_length_estimator,
)
from tests.synthetic import random_corpus

LIMITS = (40, 200)
WHOLE = (Caption("a man walks", ("a/DET", "man/NOUN", "walk/VERB")), Caption("walking", ("walk/VERB",)))


def draws(seed: int = 0) -> LoaderDraws:
    return LoaderDraws(np.random.default_rng(seed))


def ramp(frames: int, width: int = 3) -> np.ndarray:
    """Features that tell their frame: row t is t everywhere."""
    return np.repeat(np.arange(frames, dtype=np.float32)[:, None], width, axis=1)


def clips(lengths: dict[str, int], captions: dict[str, list[Caption]] | None = None) -> Clips:
    motions = {name: ramp(frames) for name, frames in lengths.items()}
    captions = captions or {}
    return Clips(list(lengths), motions.__getitem__, lambda name: captions.get(name, list(WHOLE)))


class WordsByCount:
    """A vectorizer without vectors: enough where only lengths and tokens matter."""

    def encode(self, tokens):
        marked, length = padded_tokens(tokens)
        return Words(np.zeros((22, 300), np.float32), np.zeros((22, 15), np.float32), length, marked)


class TestEntries:
    def test_length_limits_include_the_lower_and_exclude_the_upper(self):
        entries, report = select_entries(clips({"a": 39, "b": 40, "c": 199, "d": 200}), LIMITS, 3, draws())
        assert [entry.name for entry in entries] == ["b", "c"]
        assert report.skipped["a"].startswith("too short: 39 frames, 40 needed")
        assert report.skipped["d"].startswith("too long: 200 frames")

    def test_entries_rise_in_length_and_ties_keep_their_order(self):
        entries, _ = select_entries(clips({"b": 60, "c": 50, "a": 60}), LIMITS, 3, draws())
        assert [entry.name for entry in entries] == ["c", "b", "a"]

    def test_a_caption_with_times_is_an_entry_of_its_own(self):
        part = Caption("he runs", ("run/VERB",), 1.0, 4.5)
        entries, _ = select_entries(clips({"x": 120}, {"x": [part, *WHOLE]}), LIMITS, 3, draws())
        first, second = entries
        assert first.name[1:] == "_x" and first.captions == (part,) and {entry.clip for entry in entries} == {"x"}
        assert first.motion[:, 0].tolist() == list(range(20, 90))  # 20 frames per second
        assert second.name == "x" and second.captions == WHOLE

    def test_a_clip_of_parts_only_exists_as_its_parts(self):
        parts = [Caption("one", ("one/NUM",), 0.5, 4.0), Caption("two", ("two/NUM",), 2.0, 6.0)]
        entries, report = select_entries(clips({"x": 120, "y": 60}, {"x": parts}), LIMITS, 3, draws())
        names = {entry.name for entry in entries}
        assert len(names) == 3 and "x" not in names and not report.skipped

    def test_a_letter_that_is_taken_is_drawn_again(self):
        class Stubborn(LoaderDraws):
            letters = iter("AAAB")

            def choice(self, options):
                return next(self.letters)

        parts = [Caption(str(i), ("x/X",), 0.0, 3.0 + i) for i in range(2)]
        entries, _ = select_entries(clips({"x": 120}, {"x": parts}), LIMITS, 3, Stubborn(np.random.default_rng()))
        assert [entry.name for entry in entries] == ["A_x", "B_x"]

    def test_every_clip_left_out_is_reported_with_its_reason(self, tmp_path, caplog):
        folder = tmp_path / "set"
        names = ["good", "missing", "nan", "short", "wide", "torn", "untold", "garbled", "part"]
        for name in names:
            motion = ramp(60)
            if name == "nan":
                motion[30, 1] = np.nan
            (folder / "new_joint_vecs").mkdir(parents=True, exist_ok=True)
            np.save(
                folder / "new_joint_vecs" / f"{name}.npy",
                {"short": ramp(9), "wide": ramp(60, 4)}.get(name, motion),
            )
            write_caption_file(folder / "texts" / f"{name}.txt", WHOLE)
        (folder / "new_joint_vecs" / "missing.npy").unlink()
        (folder / "new_joint_vecs" / "torn.npy").write_bytes(b"\x93NUMPY")
        (folder / "texts" / "untold.txt").unlink()
        (folder / "texts" / "garbled.txt").write_text("no hash here\n")
        write_caption_file(folder / "texts" / "part.txt", [*WHOLE, Caption("blink", ("blink/VERB",), 1.0, 1.5)])
        (folder / "test.txt").write_text("\n".join(names))
        with caplog.at_level("INFO"):
            entries, report = select_entries(clips_of_folder(folder, "test"), LIMITS, 3, draws())
        assert [entry.name for entry in entries] == ["good", "part"]
        kinds = {name: reason.partition(":")[0] for name, reason in report.skipped.items()}
        assert kinds == {
            "missing": "missing",
            "nan": "with NaN",
            "short": "too short",
            "wide": "of another width",
            "torn": "unreadable",
            "untold": "without caption",
            "garbled": "without caption",
            "part at 1-1.5 s": "too short",
        }
        assert "8 left out: 2 too short (short, part at 1-1.5 s)" in caplog.text

    def test_a_split_without_a_usable_clip_is_refused_with_the_reason(self):
        with pytest.raises(ValueError, match=r"none of the 1 clips .* can be used: 1 left out: 1 of another width \(a\)"):
            select_entries(clips({"a": 60}), LIMITS, 263, draws())

    def test_an_unknown_split_names_the_known_ones(self, tmp_path):
        (tmp_path / "train.txt").touch()
        with pytest.raises(FileNotFoundError, match="no such split; this dataset has train"):
            clips_of_folder(tmp_path, "tets")


class TestCrops:
    def test_crop_is_whole_units_or_one_fewer_and_lies_inside(self):
        found = {crop(90, 4, draws(seed)) for seed in range(200)}
        assert {length for _, length in found} == {88, 84}
        assert {start for start, length in found if length == 84} == set(range(7))

    def test_a_third_of_the_crops_lose_a_unit(self):
        lengths = [crop(90, 4, draws(seed))[1] for seed in range(600)]
        assert lengths.count(84) / 600 == pytest.approx(1 / 3, abs=0.06)

    def test_long_units_are_never_cut(self):
        assert {crop(100, 16, draws(seed))[1] for seed in range(50)} == {96}

    @pytest.mark.parametrize(("frames", "labels"), [(48, {48}), (51, {48}), (52, {48, 52}), (60, {60, 56})])
    def test_length_estimator_labels(self, frames, labels):
        assert {crop_for_length_estimator(frames, 48, 4, draws(seed))[1] for seed in range(60)} == labels


class TestEvaluationDataset:
    def make(self, lengths: dict[str, int]) -> EvaluationDataset:
        mean, std = np.full(3, 10.0), np.full(3, 2.0)
        return EvaluationDataset(clips(lengths), WordsByCount(), mean, std, LIMITS, draws())

    def test_items_are_normalised_crops(self):
        item = self.make({"a": 61}).item(0, draws(3))
        frames = item.motion[:, 0] * 2 + 10
        assert item.length == len(item.motion) in (56, 60)
        assert np.allclose(np.diff(frames), 1) and frames[0] >= 0 and frames[-1] <= 60
        assert item.text in {"a man walks", "walking"} and item.name == "a"

    def test_the_curriculum_leaves_short_clips_out(self):
        data = self.make({"a": 40, "b": 60, "c": 100})
        data.require_length(48)
        assert len(data) == 2
        items = [data.length_estimator_item(i, draws(i)) for i in range(2)]
        assert [item.name for item in items] == ["b", "c"]
        assert [len(item.motion) for item in items] == [48, 48]
        assert all(item.length > 48 for item in items)
        with pytest.raises(IndexError):
            data.item(2, draws())

    def test_batches_fall_in_text_length_and_are_padded_with_the_mean_pose(self):
        data = self.make({"a": 60, "b": 80})
        items = [data.item(i % 2, draws(i)) for i in range(8)]
        batch = collate_evaluation(items)
        assert batch.text_lengths.tolist() == sorted(batch.text_lengths.tolist(), reverse=True)
        assert batch.motion.shape == (8, 196, 3) and batch.motion.dtype == torch.float32
        for row, length in zip(batch.motion, batch.lengths):
            assert not row[length:].any()
            assert row[:length].any()

    def test_captions_without_tokens_are_refused(self):
        with pytest.raises(ValueError, match="a: a caption has no word/POS tokens"):
            EvaluationDataset(
                clips({"a": 60}, {"a": [Caption("x")]}), WordsByCount(), np.zeros(3), np.ones(3), LIMITS, draws()
            )


class TestWindows:
    def test_published_starts_miss_the_last_and_repeat_the_first(self):
        data = WindowDataset(clips({"a": 66, "b": 64, "c": 67}), 64, np.zeros(3), np.ones(3))
        starts = [int(data[i][0, 0]) for i in range(len(data))]
        assert starts == [0, 0, 1, 0, 1]  # 66 - 64 and 67 - 64 windows; the clip of 64 frames gives none

    def test_all_starts_once(self):
        data = WindowDataset(clips({"a": 66, "b": 64, "c": 63}), 64, np.zeros(3), np.ones(3), starts="all")
        assert [int(data[i][0, 0]) for i in range(len(data))] == [0, 1, 2, 0]
        assert data.report.skipped == {"c": "too short: 63 frames, 64 needed"}
        assert {int(data.random_window(0, draws(seed))[0, 0]) for seed in range(40)} == {0, 1, 2}


@pytest.fixture
def corpus(tmp_path) -> corpora.Corpus:
    """Clips of 7 to 300 frames, the last with a caption for 2-7 s; frame t of every clip holds t."""
    lengths = {"tiny": 7, "short": 19, "middle": 61, "long": 100, "endless": 300}
    features = Features("humanml", 20.0, "continuous")
    captions = {"endless": [Caption("he spins", start=2.0, end=7.0), *WHOLE]}
    entries = [
        NewClip(name, ramp(n, 263), captions.get(name, WHOLE), {"content": "walk" if n < 100 else "spin"})
        for name, n in lengths.items()
    ]
    statistics = corpora.Statistics(np.full(263, 50, np.float32), np.full(263, 4, np.float32), features)
    write_corpus(tmp_path, entries, features, statistics)
    (tmp_path / "train.txt").write_text("\n".join([*lengths, "absent"]))
    return corpora.Corpus.open(tmp_path)


class TestTextMotionDataset:
    def test_parts_and_clips_too_short_to_crop(self, corpus):
        data = TextMotionDataset(corpus)
        assert [(corpus.names[s.clip], *s.parts[0][:2]) for s in data.examples] == [
            ("short", 0, 19),
            ("middle", 0, 61),
            ("long", 0, 100),
            ("endless", 0, 300),
            ("endless", 40, 140),
        ]
        assert data.left_out.skipped == {"tiny": "too short: 7 frames, 8 needed"}
        assert data.lengths.tolist() == [19, 61, 100, 196, 100]
        assert data.labels("content") == ["walk", "walk", "spin", "spin", "spin"]

    def test_a_sample_depends_on_its_numbers_alone(self, corpus):
        data = TextMotionDataset(corpus)
        once, again = data.item(3, 5, seed=1), TextMotionDataset(corpus).item(3, 5, seed=1)
        assert np.array_equal(once.motion, again.motion) and once.text == again.text
        others = [data.item(3, number, seed) for number, seed in ((6, 1), (5, 2))]
        assert all(other.motion[0, 0] != once.motion[0, 0] for other in others)

    def test_whole_keeps_every_unit(self, corpus):
        data = TextMotionDataset(corpus, crop_rule="whole")
        assert [len(data.item(i, 0).motion) for i in range(5)] == [16, 60, 100, 196, 100]

    def test_published_crops_lose_at_most_two_units(self, corpus):
        data = TextMotionDataset(corpus)
        assert {len(data.item(1, number).motion) for number in range(40)} == {60, 56}
        starts = {int(data.item(3, number).motion[0, 0]) for number in range(60)}
        assert min(starts) >= 0 and max(starts) <= 104 and len(starts) > 30

    def test_a_part_is_cut_from_its_place(self, corpus):
        motion = TextMotionDataset(corpus, crop_rule="whole").item(4, 0).motion
        assert (motion[0, 0], motion[-1, 0]) == (40, 139)

    def test_own_captions_from_a_second_to_the_same_second_describe_their_whole_clip(self, tmp_path, caplog):
        """Published clips are read as their published loader does: it leaves such captions out."""
        captions = [Caption("he bows", start=1.5, end=1.5), Caption("he spins", start=3.0, end=1.0)]
        found = {}
        for name, heading in (("walk", "continuous"), ("walk", "published"), ("000021", "published")):
            features = Features("humanml", 20.0, heading)
            statistics = corpora.Statistics(np.zeros(263, np.float32), np.ones(263, np.float32), features)
            folder = tmp_path / name / heading
            entries = [NewClip(name, ramp(100, 263), captions), NewClip("000001", ramp(90, 263), WHOLE)]
            write_corpus(folder, entries, features, statistics)
            (folder / "train.txt").write_text(f"{name}\n000001\n")
            with caplog.at_level("INFO"):
                data = TextMotionDataset(corpora.Corpus.open(folder))
            entries, _ = select_entries(data.corpus.clips_of("train"), (8, 200), 263, draws())
            judged = {(len(each.motion), *(caption.text for caption in each.captions)) for each in entries}
            assert judged == {(s.frames, *(part.text for part in s.parts)) for s in data.examples}  # as trained on
            found[name, heading] = [s.parts[0] for s in data.examples if s.clip == 0], data.left_out.skipped
        whole_and_part = [(0, 100, "he bows"), (20, 60, "he spins")]
        assert found["walk", "continuous"] == found["walk", "published"] == (whole_and_part, {})
        assert "1 captions that begin and end at the same second" in caplog.text and "walk at 1.5 s" in caplog.text
        assert found["000021", "published"] == ([], {
            "000021 at 1.5-1.5 s": "too short: 0 frames, 8 needed", "000021 at 3-1 s": "too short: -40 frames, 8 needed",
        })  # fmt: skip

    def test_seconds_of_own_captions_are_frames_of_the_data_in_training_and_evaluation_alike(self, tmp_path):
        features = Features("humanml", 30.0, "continuous")
        statistics = corpora.Statistics(np.zeros(263, np.float32), np.ones(263, np.float32), features)
        write_corpus(tmp_path, [NewClip("turn", ramp(120, 263), [Caption("he turns", start=1.0, end=3.0)])], features, statistics)
        (tmp_path / "train.txt").write_text("turn\n")
        own = corpora.Corpus(tmp_path)
        assert TextMotionDataset(own).examples[0].parts[0][:2] == (30, 90)
        assert real_set(own, "train").entries[0].motion[:, 0].tolist() == list(range(30, 90))

    def test_batches_are_padded_and_masked(self, corpus):
        data = TextMotionDataset(corpus, crop_rule="whole")
        batch = collate([data.item(i, 0) for i in (1, 0)])
        assert batch.motion.shape == (2, 60, 263)
        assert batch.lengths.tolist() == batch.mask.sum(1).tolist() == [60, 16]
        assert batch.mask[1].tolist() == [True] * 16 + [False] * 44
        assert not batch.motion[1, 16:].any()
        assert batch.names == ["middle", "short"] and batch.indices.tolist() == [1, 0]
        assert collate([data.item(0, 0)], pad_to=196).motion.shape == (1, 196, 263)

    def test_bad_features_and_empty_splits_are_named(self, corpus):
        (corpus.folder / "val.txt").write_text("tiny")
        with pytest.raises(ValueError, match=r"split 'val' can be trained on: 1 left out: 1 too short \(tiny\)"):
            TextMotionDataset(corpus, "val")
        corpus.clips.frames = np.full_like(corpus.frames, np.nan)
        with pytest.raises(ValueError, match="short: its features hold NaN"):
            TextMotionDataset(corpus).item(0, 0)

    def test_the_evaluation_loader_reads_a_corpus_too(self, corpus):
        entries, report = select_entries(corpus.clips_of("train"), LIMITS, 263, draws())
        assert [entry.name for entry in entries] == ["middle", "long"]
        assert report.skipped["absent"] == "missing"


@pytest.mark.parametrize("asked, multiple, found", [(16, 4, 16), (100_000, 4, 44), (100_000, 8, 48), (99, 4, 99)])
def test_no_window_is_longer_than_the_longest_clip_and_that_is_said(asked, multiple, found, tmp_path, caplog):
    """One that is no whole multiple is left to be refused. The longest of the 20 clips to train on has 43 frames."""
    assert fitting_window(corpora.Corpus.open(random_corpus(tmp_path)), asked, multiple) == found
    assert (f"--window_size {asked}: the longest clip of split train has 43 frames; windows have {found}" in caplog.text) == (
        found != asked)


def test_a_batch_beyond_the_split_is_said_once(corpus, caplog):
    data = TextMotionDataset(corpus)
    batches = CaptionBatches(data, 2 * len(data))
    for step in range(2):
        batches(step, 0, 1)
    assert caplog.text.count(f"a step takes {2 * len(data)} samples of {len(data)} motions") == 1


def test_a_number_beyond_what_is_there_is_cut_with_a_word(caplog):
    assert at_most(5, 9, "--clips", "the split") == 5 and not caplog.text
    assert at_most(50, 9, "--clips", "the split") == 9 and "--clips 50: the split has 9, which are taken" in caplog.text


class TestBatchPlan:
    def test_a_pass_holds_every_item_once(self):
        plan = BatchPlan(10, 4, seed=3)
        stream = [sample for step in range(5) for sample in plan.batch(step)]
        assert sorted(sample.index for sample in stream[:10]) == list(range(10))
        assert sorted(sample.index for sample in stream[10:]) == list(range(10))
        assert [sample.number for sample in stream] == list(range(20))
        assert [s.index for s in stream[:10]] != [s.index for s in stream[10:]]

    @pytest.mark.parametrize("options", [{}, {"weights": np.arange(5.0)}, {"lengths": np.arange(5) % 3}])
    def test_processes_share_what_one_would_see(self, corpus, options):
        data = TextMotionDataset(corpus)
        alone, shared = (CaptionBatches(data, size, 1, **options) for size in (6, 2))
        for step in (0, 5, 40):
            parts = [shared(step, part, 3) for part in range(3)]
            assert [name for part in parts for name in part.names] == alone(step, 0, 1).names

    @pytest.mark.parametrize("options", [{}, {"weights": np.ones(37)}, {"lengths": np.arange(37)}])
    def test_a_restart_goes_on_with_the_same_batches(self, options):
        run, resumed = (BatchPlan(37, 8, seed=2, **options) for _ in range(2))
        uninterrupted = [run.batch(step) for step in range(30)]
        assert [resumed.batch(step) for step in range(19, 30)] == uninterrupted[19:]
        assert BatchPlan(37, 8, seed=3, **options).batch(19) != uninterrupted[19]

    def test_threads_see_the_same_batches(self):
        lengths = np.random.default_rng(0).integers(40, 200, 30)
        plans = [BatchPlan(30, 4, seed=1, lengths=lengths, bucket=2) for _ in range(2)]
        steps = [int(step) for step in np.random.default_rng(1).integers(0, 400, 3000)]  # far apart: nothing stays remembered
        interval = sys.getswitchinterval()
        try:
            sys.setswitchinterval(1e-6)
            with ThreadPoolExecutor(8) as pool:
                found = list(pool.map(plans[0].batch, steps))
        finally:
            sys.setswitchinterval(interval)
        assert found == [plans[1].batch(step) for step in steps]

    def test_buckets_hold_similar_lengths_and_lose_no_sample(self):
        lengths = np.random.default_rng(0).integers(20, 196, 640)
        plan = BatchPlan(640, 32, lengths=lengths, bucket=10)
        batches = [plan.batch(step) for step in range(20)]
        assert sorted(sample.index for batch in batches for sample in batch) == list(range(640))
        spread = np.mean([np.ptp([lengths[s.index] for s in batch]) for batch in batches])
        assert spread < 30
        means = [np.mean([lengths[s.index] for s in batch]) for batch in batches[:10]]
        assert means != sorted(means)

    def test_weights_lift_rare_labels(self):
        labels = ["walk"] * 90 + ["bow"] * 10
        weights = balanced_weights(labels)
        assert weights.mean() == pytest.approx(1)
        plan = BatchPlan(100, 50, weights=weights)
        drawn = [labels[sample.index] for step in range(200) for sample in plan.batch(step)]
        assert drawn.count("bow") / len(drawn) == pytest.approx(0.5, abs=0.02)
        assert balanced_weights(labels, power=0).tolist() == [1.0] * 100

    def test_nothing_global_is_touched(self):
        random.seed(0), np.random.seed(0), torch.manual_seed(0)
        before = random.random(), np.random.rand(), torch.rand(1)
        random.seed(0), np.random.seed(0), torch.manual_seed(0)
        BatchPlan(50, 10, lengths=np.arange(50)).batch(7)
        assert (random.random(), np.random.rand(), torch.rand(1)) == before

    def test_sizes_that_make_no_sense_are_refused(self):
        with pytest.raises(ValueError, match="expected 20 non-negative numbers"):
            BatchPlan(20, 4, weights=np.zeros(20))
