"""Retrieval: known answers of ranks, the protocols and the command."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from data_loaders.corpus import Corpus
from data_loaders.corpus_writer import NewClip, write_corpus
from data_loaders.features import Features, Statistics
from data_loaders.text import Caption
from evaluations import retrieval_metrics
from evaluations.eval_retrieval import RetrievalOptions, main
from evaluations.eval_retrieval import run as evaluate
from evaluations.retrieval import (
    PUBLISHED_SUBSETS,
    Sentences,
    Similarities,
    captioned_motions,
    dissimilar_subset,
    run_protocol,
    similarities_of,
)
from evaluations.retrieval_metrics import ranks
from model.checkpoints import save_pretrained
from model.embedding import default_evaluator, open_space
from model.evaluator_config import EvaluatorConfig
from model.evaluators import GuoEvaluator
from model.text_towers import load_text_encoder
from tests.typed import refusal

ROOT = Path(__file__).resolve().parents[1]
FEATURES = Features("humanml", 20.0, "continuous")
STATISTICS = Statistics(np.zeros(263, np.float32), np.ones(263, np.float32), FEATURES)


def similarities(count=50, seed=0, digits=None):
    values = np.random.default_rng(seed).normal(size=(count, count)).astype(np.float32)
    return values if digits is None else values.round(digits)


def figures(*arguments, **keywords):
    return retrieval_metrics.retrieval_metrics(*arguments, **keywords)


# --- ranks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 7, 200])
def test_where_each_text_is_nearest_to_its_motion_all_recalls_are_full_and_the_median_is_one(count):
    found = figures(similarities(count) + 100 * np.eye(count))
    assert {found[f"{way}/R{k:02d}"] for way in ("t2m", "m2t") for k in (1, 2, 3, 5, 10)} == {100.0}
    assert found["t2m/MedR"] == found["m2t/MedR"] == 1.0 and found["t2m/len"] == count


def test_strangers_are_found_by_chance():
    found = figures(similarities(1000))
    assert found["t2m/R10"] == pytest.approx(1, abs=0.9) and found["m2t/MedR"] == pytest.approx(500, abs=60)


def test_in_a_gallery_of_equals_everybody_stands_in_the_middle():
    found = figures(np.ones((8, 8)))
    assert ranks(np.ones((8, 8))).tolist() == [3.5] * 8
    assert (found["t2m/R03"], found["t2m/R05"], found["t2m/MedR"]) == (0.0, 100.0, 4.5)
    assert figures(np.ones((8, 8)), ties="optimistic")["t2m/R01"] == 100.0


def test_two_that_share_the_first_place_are_both_hits():
    shared = np.array([[2.0, 2.0, 0.0], [2.0, 2.0, 0.0], [0.0, 0.0, 2.0]])
    assert ranks(shared).tolist() == [0.5, 0.5, 0.0] and figures(shared)["t2m/R01"] == 100.0


@pytest.mark.parametrize("digits", [None, 1, 0])
def test_a_rank_is_the_place_in_the_sorted_row_and_the_mean_place_of_equals(digits):
    similarity = similarities(digits=digits)
    alike = np.random.default_rng(1).random(similarity.shape) < 0.1
    alike |= alike.T | np.eye(len(similarity), dtype=bool)
    for own in (np.eye(len(similarity), dtype=bool), alike):
        expected, first = [], []
        for row, right in zip(similarity, own):
            places = np.flatnonzero(np.sort(row)[::-1] == row[right].max())
            expected.append(places.mean())
            first.append(places[0])
        assert ranks(similarity, own).tolist() == expected
        assert ranks(similarity, own, ties="optimistic").tolist() == first


def test_only_order_counts_and_the_order_of_the_items_does_not():
    similarity = similarities()
    shuffled = np.random.default_rng(1).permutation(len(similarity))
    assert figures(similarity[shuffled][:, shuffled]) == figures(similarity) == figures(3 * similarity + 1)
    turned = figures(similarity.T)
    assert {f"m2t/{name[4:]}": value for name, value in turned.items() if name.startswith("t2m")}.items() <= figures(
        similarity).items()


def test_that_more_texts_count_never_makes_a_rank_worse():
    similarity, draw = similarities(), np.random.default_rng(2)
    alike = np.zeros(similarity.shape, bool)
    before = ranks(similarity, alike)
    assert before.tolist() == ranks(similarity).tolist()  # a text always counts as its own
    for _ in range(5):
        alike = alike | (draw.random(similarity.shape) < 0.05)
        after = ranks(similarity, alike)
        assert (after <= before).all()
        before = after


def test_several_galleries_are_ranked_at_once():
    stack = np.stack([similarities(seed=seed) for seed in range(3)])
    assert ranks(stack).tolist() == [ranks(one).tolist() for one in stack]


def in_small_batches(similarity, names):
    found = Similarities(tuple(names), tuple(names), np.arange(len(names)), similarity)
    return run_protocol("guo", found, None)[0]


def test_small_batches_follow_the_names_and_leave_the_rest_out():
    names = [f"{i:03d}" for i in np.random.default_rng(3).permutation(70)]
    similarity = similarities(70)
    shuffled = np.random.default_rng(4).permutation(70)
    found = in_small_batches(similarity, names)
    assert found == in_small_batches(similarity[shuffled][:, shuffled], [names[i] for i in shuffled])
    assert found["t2m/len"] == 32 and retrieval_metrics.small_batches(names).shape == (2, 32)
    assert in_small_batches(np.eye(70), names)["m2t/R01"] == 100.0
    with pytest.raises(ValueError, match="at least 32 motions, there are 31"):
        in_small_batches(similarity[:31, :31], names[:31])


def test_chance_is_what_strangers_score():
    draw = np.random.default_rng(0)
    alike = (draw.random((200, 200)) < 0.01) | np.eye(200, dtype=bool)
    for own in (None, alike):
        many = [figures(draw.normal(size=(200, 200)), own, rounding=None) for _ in range(60)]
        expected = retrieval_metrics.chance(200, own)
        for name, error in (("R01", 0.3), ("R05", 0.6), ("R10", 0.8), ("MedR", 4.0)):
            assert np.mean([each[f"t2m/{name}"] for each in many]) == pytest.approx(expected[name], abs=error)
    assert retrieval_metrics.chance(4)["R03"] == pytest.approx(75) and retrieval_metrics.chance(4)["R10"] == 100


def test_what_is_no_similarity_matrix_is_refused():
    broken = similarities(5)
    broken[2, 3] = np.nan
    with pytest.raises(ValueError, match="NaN"):
        figures(broken)
    for shape in ((5, 4), (0, 0), (5,)):
        with pytest.raises(ValueError, match="a similarity matrix of shape"):
            ranks(np.zeros(shape))
    with pytest.raises(ValueError, match="which texts are alike"):
        ranks(np.zeros((5, 5)), np.eye(4, dtype=bool))


def test_figures_are_rounded_as_published_or_not_at_all():
    similarity = similarities(7)
    exact, rounded = figures(similarity, rounding=None), figures(similarity)
    assert rounded == {name: round(value, 2) for name, value in exact.items()} and exact != rounded
    assert list(exact)[:4] == ["t2m/R01", "m2t/R01", "t2m/R02", "m2t/R02"]


# --- protocols -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def minilm():
    return load_text_encoder("minilm", disk_cache=False)


class Numbers:
    """A judge of motions that hold a number, and of captions that end with one: it is right about all of them."""

    similarity, frame_limits = "euclidean", (4, 50)

    def __init__(self):
        self.texts_read = []

    def encode_text(self, captions):
        self.texts_read += [caption.text for caption in captions]
        return np.array([[float(caption.text.split()[-1])] for caption in captions])

    def encode_motion(self, motions):
        return np.array([[float(motion.mean())] for motion in motions])


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """40 clips and their mirrored twins: clip i and its twin are filled with i, and share the caption of number i // 2."""
    folder = tmp_path_factory.mktemp("dataset") / "numbers"
    folder.mkdir()
    entries = [
        NewClip(f"{twin}{i:03d}", np.full((30 + i, 263), i // 2, np.float32), [Caption(f"number {i // 2}"), Caption("else 9")])
        for i in range(40) for twin in ("", "M")
    ]  # fmt: skip
    entries.append(NewClip("M900", np.full((20, 263), 50, np.float32), [Caption("number 50", start=0.58, end=0.2)]))
    write_corpus(folder, entries, FEATURES, STATISTICS)
    (folder / "test.txt").write_text("\n".join([*(entry.name for entry in entries), "absent"]))
    (folder / "few.txt").write_text("003\nM003\n007")
    (folder / "one.txt").write_text("M004")
    return folder


def gallery(dataset, split="test", judge=None, **keywords):
    judge = judge or Numbers()
    return similarities_of(captioned_motions(Corpus.open(dataset), split, judge.frame_limits, **keywords)[0], judge)


def test_each_distinct_text_is_read_once_and_clips_that_share_it_tie(dataset):
    judge = Numbers()
    made = gallery(dataset, judge=judge)
    assert len(made) == 81 and len(judge.texts_read) == len(set(judge.texts_read)) == len(made.texts) == 21
    found = run_protocol("normal", made, lambda: None)[0]
    assert found["t2m/MedR"] == found["m2t/MedR"] == 2.5  # four clips of one number are as near
    assert found["t2m/R01"] == 1.23 and found["t2m/R02"] == 100.0  # one of 81 is alone with its text; four share place 1.5


def test_what_cannot_be_used_is_named_and_long_clips_are_cut(dataset):
    items, report = captioned_motions(Corpus.open(dataset), "test", (4, 50))
    assert report.skipped == {"absent": "missing"}
    assert max(len(item.motion) for item in items) == 50
    assert len(items[-1].motion) == 11 - 4  # 0.2 to 0.58 s at 20 fps, both cut down to frames
    with pytest.raises(ValueError, match="no clip of split few can be used"):
        captioned_motions(Corpus.open(dataset), "few", (100, 200))


def test_a_mirrored_twin_is_folded_where_its_original_is_there(dataset):
    names = gallery(dataset, fold_mirrored=True).names
    assert len(names) == 41 and "M900" in names and "M003" not in names
    assert run_protocol("normal", gallery(dataset, fold_mirrored=True), lambda: None)[0]["t2m/MedR"] == 1.5


def test_one_text_alone_finds_its_motion(dataset, minilm):
    made = gallery(dataset, "one")
    for protocol in ("normal", "threshold", "nsim"):
        assert run_protocol(protocol, made, lambda: Sentences(minilm))[0]["m2t/R01"] == 100.0
    with pytest.raises(ValueError, match="at least 32"):
        run_protocol("guo", made, None)


def test_clips_whose_texts_are_the_same_count_as_hits(dataset, minilm):
    class Wrong(Numbers):
        """Takes clips of odd length for those of a number between their own and the next."""

        def encode_motion(self, motions):
            return np.array([[float(motion.mean()) + 0.4 * (len(motion) % 2)] for motion in motions])

    made = gallery(dataset, judge=Wrong())
    normal, threshold = (run_protocol(name, made, lambda: Sentences(minilm))[0] for name in ("normal", "threshold"))
    assert normal["t2m/R02"] < 80 and threshold["t2m/R02"] == 100.0


def test_a_dissimilar_subset_has_no_two_texts_alike_and_follows_a_list_where_there_is_one(dataset, minilm):
    made, sentences = gallery(dataset), Sentences(minilm, threshold=0.9)
    subset = dissimilar_subset(made, sentences)
    texts = [subset.texts[i] for i in subset.text_index]
    assert 1 < len(texts) == len(set(texts)) <= 21
    assert sentences.alike(texts).sum() == len(texts)
    assert dissimilar_subset(made, sentences, ["007", "gone", "M002"]).names == ("M002", "007")
    with pytest.raises(ValueError, match="none of the clips listed"):
        dissimilar_subset(made, sentences, ["gone"])


def test_the_published_subsets_are_carried():
    subsets = json.loads(PUBLISHED_SUBSETS.read_text())["subsets"]
    assert {name: len(set(clips)) for name, clips in subsets.items()} == {"humanml": 100, "kit": 101}


def test_the_default_encoder_brings_its_own_threshold():
    found = Sentences(load_text_encoder("minilm"))
    assert (found.name, found.threshold, found.duplicates) == ("minilm", 0.95, "words")
    assert Sentences(load_text_encoder("minilm"), 0.8).threshold == 0.8


# --- the command ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory):
    torch.manual_seed(0)
    config = EvaluatorConfig(movement_hidden=8, movement_latent=8, text_hidden=8, motion_hidden=8, embedding=8,
                             words="minilm", word_dim=384, pos_dim=0, features=FEATURES)  # fmt: skip
    folder = tmp_path_factory.mktemp("evaluator") / "tiny"
    save_pretrained(folder, GuoEvaluator(config, STATISTICS))
    return folder


def test_the_command_writes_a_table_and_the_files_users_know(dataset, evaluator, tmp_path, capsys):
    main(["--model_path", str(evaluator), "--dataset", str(dataset), "--sentence_encoder", "minilm", "--device", "cpu",
          "--output_dir", str(tmp_path / "out")])  # fmt: skip
    shown = capsys.readouterr().out
    assert shown.count("text → motion") == shown.count("motion → text") == 4 and "0.95 by minilm" in shown
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert list(report["protocols"]) == ["normal", "threshold", "nsim", "guo"] and report["texts"] == 21
    yaml = (tmp_path / "out" / "threshold_0.95.yaml").read_text().splitlines()
    assert yaml[0] == f"t2m/R01: {report['protocols']['threshold']['t2m/R01']}" and len(yaml) == 14
    assert (tmp_path / "out" / "report.md").read_text().count(r"\\") == 4
    lines = list(csv.DictReader((tmp_path / "out" / "ranks.csv").open()))
    assert len(lines) == 81 and lines[0]["caption"] == "number 0"


@pytest.mark.slow
def test_two_processes_measure_what_one_does(dataset, evaluator, tmp_path):
    command = ["-m", "evaluations.eval_retrieval", "--model_path", str(evaluator), "--dataset", str(dataset), "--device", "cpu",
               "--sentence_encoder", "minilm", "--output_dir"]  # fmt: skip
    for name, count in (("one", "1"), ("two", "2")):
        words = [sys.executable, *command, str(tmp_path / name), "--processes", count]
        done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-9000:]
    assert len(list(tmp_path.iterdir())) == 2  # one process writes
    one, two = (json.loads((tmp_path / name / "report.json").read_text())["protocols"] for name in ("one", "two"))
    assert one == two


def test_equal_captions_tie_to_the_last_bit_with_a_real_evaluator(dataset, evaluator):
    corpus = Corpus.open(dataset)
    judge = open_space(evaluator, data=corpus)
    made = similarities_of(captioned_motions(corpus, "test", judge.frame_limits)[0], judge)
    for text in range(len(made.texts)):
        rows = made.similarity[made.text_index == text]
        assert (rows == rows[0]).all()


def test_tmr_judges_like_the_evaluator(dataset, tmp_path):
    from model.tmr import TMR
    from model.tmr_config import TMRConfig

    torch.manual_seed(0)
    config = TMRConfig(latent_dim=16, ff_size=16, num_layers=1, num_heads=2, text_dim=384, text_encoder="minilm",
                       sentence_encoder="minilm", features=FEATURES)  # fmt: skip
    save_pretrained(tmp_path / "tmr", TMR(config, STATISTICS))
    report = evaluate(RetrievalOptions(model_path=tmp_path / "tmr", dataset=str(dataset), protocol="normal", device="cpu",
                                       output_dir=tmp_path / "out"))  # fmt: skip
    assert report["similarity"] == "cosine" and report["protocols"]["normal"]["t2m/len"] == 81


def test_few_clips_are_measured_by_the_protocols_that_allow_it(dataset, evaluator, tmp_path, caplog):
    report = evaluate(RetrievalOptions(model_path=evaluator, dataset=str(dataset), split="few", sentence_encoder="minilm",
                                       device="cpu", output_dir=tmp_path / "out"))  # fmt: skip
    assert list(report["protocols"]) == ["normal", "threshold", "nsim"] and "no small batches" in caplog.text


@pytest.mark.parametrize("flags, message", [
    (["--threshold", "1.2"], "--threshold must be above 0, below 1"),
    (["--dataset", "nowhere"], "dataset 'nowhere' not found"),
    (["--split", "other"], "no such split"),
    (["--model_path", "nowhere"], "no evaluator of numbers"),
    (["--split", "few", "--protocol", "guo"], "small batches need at least 32 motions, there are 3"),
    (["--device", "abacus"], "unknown device"),
])  # fmt: skip
def test_bad_input_is_one_line(flags, message, dataset, evaluator, tmp_path, capsys):
    given = ["--dataset", str(dataset), "--model_path", str(evaluator), "--output_dir", str(tmp_path / "out"), *flags]
    assert message in refusal(main, given, capsys) and not (tmp_path / "out").exists()


def test_only_the_published_clips_are_judged_as_humanml3d(tmp_path):
    features = Features("humanml", 20.0, "published")
    statistics = Statistics(np.zeros(263, np.float32), np.ones(263, np.float32), features)
    folders = {"own": ("walk_01", "000021"), "humanml3d": ("000021", "M000021")}
    for folder, names in folders.items():
        entries = [NewClip(name, np.zeros((50, 263), np.float32), [Caption("a walk")]) for name in names]
        write_corpus(tmp_path / folder, entries, features, statistics)
    own, humanml3d = (Corpus.open(tmp_path / folder) for folder in folders)
    assert humanml3d.published == "humanml" and default_evaluator(humanml3d).name.startswith("t2m")
    assert own.published is None and default_evaluator(own).name == "own"
