"""TMR on folders with annotations.json: what is trained on, what is left out and said so, whose features are read."""

import json

import numpy as np
import pytest

from data_loaders.annotation_folder import seconds_of, write_annotations
from data_loaders.corpus import Corpus
from data_loaders.text_similarity import duplicates_rule
from model.checkpoints import from_pretrained
from model.text_encoders import SENTENCES, WORDS
from model.text_towers import TOWERS, at_hand, load_text_encoder, saved_beside
from protos.reading import FileError
from tests.saved_texts import save_text_features
from tests.synthetic import random_corpus
from tests.tiny_training_tmr import SECONDS, small
from train.tmr_options import run
from train.tmr_recipe import language_models, statistics_of, training_motions


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return random_corpus(tmp_path_factory.mktemp("dataset"))


def test_a_run_keeps_its_normalisation_when_its_data_change(dataset, tmp_path, caplog):
    folder = tmp_path / "annotations" / "growing"
    write_annotations(Corpus.open(dataset), folder)
    whole = (folder / "splits" / "train.txt").read_text()
    (folder / "splits" / "train.txt").write_text("\n".join(whole.split()[:6]))
    before = run(small(folder, tmp_path / "run", num_steps=3, eval_interval=0)).model.statistics
    (folder / "splits" / "train.txt").write_text(whole)
    after = run(small(folder, tmp_path / "run", num_steps=6, eval_interval=0)).model.statistics
    assert "the data have changed since this run began" in caplog.text
    np.testing.assert_array_equal(after.std, before.std)


def test_a_dataset_written_as_annotations_trains_the_same_kind_of_model(dataset, tmp_path):
    corpus, folder = Corpus.open(dataset), tmp_path / "annotations" / "made_up"
    assert write_annotations(corpus, folder) == 48
    data = Corpus(folder)
    assert data.features == corpus.features
    motions = training_motions(data, "train", (1.0, 9.8))
    for i, clip in enumerate(corpus.split("train")):
        np.testing.assert_array_equal(motions.item(i, 0).motion, corpus[clip])
    assert {motions.item(0, number).text for number in range(20)} == {caption.text for caption in corpus.captions(0)}
    options = small(folder, tmp_path / "run", balance=0.5)
    np.testing.assert_allclose(statistics_of(training_motions(data, "train", SECONDS), data).std,
                               statistics_of(training_motions(corpus, "train", SECONDS), corpus).std, rtol=1e-5)
    model = from_pretrained(run(options).checkpoint)
    assert model.features.heading == "continuous" and model.statistics.features == corpus.features


def test_of_a_longer_file_only_what_a_caption_describes_is_trained_on(dataset, tmp_path):
    folder = tmp_path / "annotations" / "spans"
    write_annotations(Corpus.open(dataset), folder)
    path = folder / "annotations.json"
    content = json.loads(path.read_text())
    content["000000"]["annotations"] = [
        {"seg_id": "a", "text": "steps", "start": 0.1, "end": 1.1}, {"seg_id": "b", "text": "late", "start": 5.0, "end": 6.5}]
    content["000001"]["path"] = "absent"
    path.write_text(json.dumps(content))
    motions = training_motions(Corpus(folder), "train", (1.0, 9.8))
    np.testing.assert_array_equal(motions.item(0, 0).motion, Corpus.open(dataset)[0][2:22])
    assert set(motions.left_out.skipped) == {"b", "000001_0", "000001_1"} and len(motions) == 19


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_file_that_is_not_finite_is_left_out_by_name(dataset, tmp_path, value):
    folder = tmp_path / "annotations" / "broken"
    write_annotations(Corpus.open(dataset), folder)
    data = Corpus(folder)
    features = np.load(data.clips.motions / "broken" / "000002.npy")
    features[7, 3] = value
    np.save(data.clips.motions / "broken" / "000002.npy", features)
    motions = training_motions(data, "train", (1.0, 9.8))
    assert set(motions.left_out.skipped) == {"000002_0", "000002_1"} and "broken/000002" in motions.left_out.skipped["000002_0"]
    assert run(small(folder, tmp_path / "run", num_steps=2, eval_interval=0)).model.mean.isfinite().all()


def test_what_a_split_lacks_is_counted(dataset, tmp_path):
    folder = tmp_path / "annotations" / "lengths"
    write_annotations(Corpus.open(dataset), folder)
    with (folder / "splits" / "train.txt").open("a") as file:
        file.write("unheard_of\n")
    with pytest.raises(ValueError, match=r"41 left out: 40 of another length \(.*1 without annotations \(unheard_of\)"):
        training_motions(Corpus(folder), "train", (50.0, 60.0))
    (folder / "splits" / "val.txt").write_text("")
    with pytest.raises(ValueError, match=r"--eval_interval needs a validation split \(0: none\).*nothing in split 'val'"):
        run(small(folder, tmp_path / "run"))


@pytest.mark.parametrize("change, message", [
    ({"text": None}, r"'000000': annotations\[0\]\.text: expected str, got null"), ({"end": np.inf}, "not readable JSON"),
    ({"start": -5.0}, "from -5 to"), ({"start": np.nan}, "not readable JSON"), ({"start": 3.0, "end": 1.0}, "from 3 to 1 s"),
])  # fmt: skip
def test_a_caption_without_words_or_time_is_named(dataset, tmp_path, change, message):
    folder = tmp_path / "annotations" / "odd"
    write_annotations(Corpus.open(dataset), folder)
    content = json.loads((folder / "annotations.json").read_text())
    content["000000"]["annotations"][0].update(change)
    (folder / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(FileError, match=message):
        Corpus(folder)


def test_datasets_written_under_two_names_do_not_share_features(dataset, tmp_path):
    for name in ("one", "two"):
        write_annotations(Corpus.open(dataset), tmp_path / "annotations" / name)
    paths = [Corpus(tmp_path / "annotations" / name).clips.annotated[0].path for name in ("one", "two")]
    assert paths == ["one/000000", "two/000000"]


@pytest.mark.parametrize("fps", [12.5, 20.0, 30.0, 29.97, 120.0])
def test_seconds_give_back_the_frame_they_were_made_of(fps):
    assert all(int(seconds_of(frame, fps) * fps) == frame for frame in range(3000))


def test_saved_text_features_of_the_layout_replace_the_language_model(dataset, tmp_path):
    folder = tmp_path / "annotations" / "saved"
    write_annotations(Corpus.open(dataset), folder)
    texts, encoder = training_motions(Corpus(folder), "train", (1.0, 10.0)).texts, load_text_encoder("minilm")
    texts += [text for text in training_motions(Corpus(folder), "val", (1.0, 10.0)).texts if text not in texts]
    for kind, name in ((WORDS, "distilbert"), (SENTENCES, "mpnet")):
        path = folder / kind / TOWERS[name].repository
        save_text_features(path, texts, encoder, words=kind == WORDS)
    options = small(folder, tmp_path / "run", text_encoder="auto", sentence_encoder="auto", num_steps=1)
    config = run(options).model.config
    assert (config.text_encoder, config.text_dim, config.duplicates) == ("distilbert", 384, "words")


def test_published_language_models_are_read_where_they_are_and_the_embedded_one_elsewhere(dataset, caplog):
    words, sentences = language_models("auto", "auto", Corpus.open(dataset))
    assert (words, sentences) == (at_hand("distilbert", "minilm"), at_hand("mpnet", "minilm"))
    if words == "minilm":
        assert "python -m protos.fetch distilbert" in caplog.text
    assert language_models("minilm", "mpnet", Corpus.open(dataset)) == ("minilm", "mpnet")  # as asked


def test_saved_words_say_which_rows_are_a_texts_and_texts_without_any_are_computed(dataset, tmp_path, caplog):
    folder = tmp_path / "annotations" / "few"
    write_annotations(Corpus.open(dataset), folder)
    path = folder / WORDS / TOWERS["minilm"].repository
    texts = training_motions(Corpus(folder), "train", (1.0, 10.0)).texts
    save_text_features(path, texts[1:], load_text_encoder("minilm"), words=True)
    assert run(small(folder, tmp_path / "run", num_steps=1, eval_interval=0)).model.config.text_dim == 384
    assert f"1 captions have no saved features in {folder / WORDS}, such as {texts[0]!r}" in caplog.text
    path.with_name(f"{path.name}_slice.npy").unlink()
    with pytest.raises(ValueError, match=r"_slice\.npy is absent"):
        saved_beside(folder, WORDS, "minilm")
    path.with_name(f"{path.name}_index.json").write_text("{")
    with pytest.raises(ValueError, match=r"_index\.json: not readable JSON"):
        saved_beside(folder, WORDS, "minilm")


def test_published_tables_go_by_mpnets_score_alone_and_all_else_by_words_too():
    assert duplicates_rule("auto", True, "mpnet") == "published"
    assert duplicates_rule("auto", False, "mpnet") == duplicates_rule("auto", True, "minilm") == "words"
    assert duplicates_rule("published", False, "minilm") == "published"
