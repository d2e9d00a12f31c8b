"""Datasets in TMR's layout: which clips a split holds, what a caption cuts out of a file, and retrieval on them."""

import json
import logging

import numpy as np
import pytest
import torch

from data_loaders.corpus import Corpus
from data_loaders.features import Statistics
from evaluations.eval_retrieval import RetrievalOptions
from evaluations.eval_retrieval import run as evaluate
from evaluations.retrieval import captioned_motions
from model.checkpoints import save_pretrained
from model.text_encoders import SENTENCES
from model.text_towers import saved_beside
from model.tmr import TMR
from model.tmr_config import TMRConfig
from protos.reading import FileError
from tests.saved_texts import write_text_features

# Seconds of the first caption of each clip, out of files of 10 s whose frames are numbered.
SPANS = {"000001": (0.0, 9.0), "M000001": (0.0, 9.0), "000002": (0.58, 3.149), "000003": (1.0, 2.0), "000004": (9.0, 12.0),
         "000005": (11.0, 13.0), "000006": (0.0, 4.0), "000007": (0.0, 4.0)}  # fmt: skip


@pytest.fixture
def folder(tmp_path):
    annotations, motions = tmp_path / "datasets" / "annotations" / "humanml3d", tmp_path / "datasets" / "motions" / "guoh3dfeats"
    (annotations / "splits").mkdir(parents=True)
    (motions / "KIT").mkdir(parents=True)
    numbered = np.repeat(np.arange(200, dtype=np.float32)[:, None], 263, axis=1)
    np.save(motions / "KIT" / "file.npy", numbered)
    np.save(motions / "KIT" / "narrow.npy", numbered[:, :251])
    paths = {"000006": "KIT/gone", "000007": "KIT/narrow"}
    content = {
        key: {"path": paths.get(key, "KIT/file"), "duration": 10.0, "annotations": [
            {"seg_id": f"{key}_0", "text": f"text of {key}", "start": start, "end": end},
            {"seg_id": f"{key}_1", "text": "another text", "start": 0.0, "end": 5.0}]}
        for key, (start, end) in SPANS.items()
    }  # fmt: skip
    (annotations / "annotations.json").write_text(json.dumps(content))
    for split in ("val", "test"):
        (annotations / "splits" / f"{split}.txt").write_text("\n".join([*SPANS, "unknown"]))
    (annotations / "splits" / "nsim_test.txt").write_text("000002\n000001")
    return annotations


def test_a_caption_is_the_frames_of_its_span_and_what_has_none_is_named(folder):
    items, report = captioned_motions(Corpus.open(str(folder)), "test", (1, 1000))
    frames = {item.name: (int(item.motion[0, 0]), int(item.motion[-1, 0])) for item in items}
    assert frames == {"000001": (0, 179), "M000001": (0, 179), "000002": (11, 61), "000003": (20, 39), "000004": (180, 199)}
    assert report.skipped["000005"] == "too short: 0 frames, 1 needed" and report.skipped["unknown"].startswith("missing")
    assert "gone.npy is absent" in report.skipped["000006"] and "shape (200, 251)" in report.skipped["000007"]


def test_only_test_splits_keep_captions_of_any_length(folder):
    data = Corpus(folder)
    assert [len(captions) for captions in data.captioned("test").values()] == [2] * 8
    assert len(data.captioned("val")[data.position("000003")]) == 1
    items, _ = captioned_motions(data, "val", (1, 1000))
    assert {item.name: item.captions[0].text for item in items}["000003"] == "another text"
    assert len(captioned_motions(data, "test", (1, 1000), fold_mirrored=True)[0]) == 4


def test_what_is_no_such_dataset_is_said_in_a_line(folder):
    with pytest.raises(FileNotFoundError, match="no such split; this dataset has nsim_test, test, val"):
        Corpus(folder).split("train")
    (folder / "annotations.json").write_text("[1]")
    with pytest.raises(FileError, match="is not an annotations file"):
        Corpus.open(str(folder))


def test_saved_features_are_read_where_they_hold_every_caption(folder):
    assert saved_beside(folder, SENTENCES, "mpnet") is None
    texts = ["text of 000001", "text of 000002"]
    path = folder / "sent_embeddings" / "sentence-transformers" / "all-mpnet-base-v2"
    write_text_features(path, np.eye(2, dtype=np.float32), {text: i for i, text in enumerate(texts)})
    saved = saved_beside(folder, SENTENCES, "mpnet")
    assert saved.encode(texts).pooled.tolist() == [[1, 0], [0, 1]]
    with pytest.raises(FileError, match=r"python -m protos\.fetch mpnet|features of width 2"):  # those of mpnet have 768
        saved.encode(["another text"])


def test_a_model_is_measured_on_such_a_folder(folder, tmp_path, caplog):
    torch.manual_seed(0)
    config = TMRConfig(latent_dim=16, ff_size=16, num_layers=1, num_heads=2, text_dim=384, text_encoder="minilm",
                       sentence_encoder="minilm")  # fmt: skip
    statistics = Statistics(np.zeros(263, np.float32), np.ones(263, np.float32), config.features)
    save_pretrained(tmp_path / "tmr", TMR(config, statistics))
    with caplog.at_level(logging.WARNING):
        report = evaluate(RetrievalOptions(model_path=tmp_path / "tmr", dataset=str(folder), sentence_encoder="minilm",
                                           device="cpu", output_dir=tmp_path / "out"))  # fmt: skip
    assert "the threshold protocol is not that of the published tables" in caplog.text
    assert {name: figures["t2m/len"] for name, figures in report["protocols"].items()} == {
        "normal": 5, "threshold": 5, "nsim": 2}  # fmt: skip
