"""The command `evaluations.eval_steps`: what fewer denoising steps cost."""

import csv
import json

import pytest
import torch

from data_loaders.corpus import Corpus
from evaluations.eval_steps import least_enough, main
from model.checkpoints import save_pretrained
from model.lsremgm import LSReMGM
from model.lsremgm_config import LSReMGMConfig


def test_the_least_number_of_steps_loses_little_of_both_probes_and_fid():
    rows = {1: {"probes": 0.70, "fid": 0.10}, 2: {"probes": 0.95, "fid": 0.05}, 4: {"probes": 0.96, "fid": 0.07},
            8: {"probes": 0.96, "fid": 0.06}, 20: {"probes": 0.97, "fid": 0.05}}  # fmt: skip
    assert least_enough(rows) == 8  # 2 disobeys, 4 is less like real motion
    assert least_enough({steps: {**row, "probes": None} for steps, row in rows.items()}) == 2
    assert least_enough({20: rows[20]}) == 20


@pytest.fixture(scope="module")
def model(pool_dataset, tmp_path_factory):
    torch.manual_seed(0)
    corpus = Corpus.open(pool_dataset)
    config = LSReMGMConfig(latent_dim=16, ff_size=16, num_layers=1, num_heads=2, diffusion_steps=20, arch="trans_dec",
                           text_dim=384, mask_frames=True, sampler="dpmpp", features=corpus.features)  # fmt: skip
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_pretrained(folder, LSReMGM(config, corpus.statistics))
    return folder


def test_each_number_of_steps_has_a_row_below_real_motion(pool_dataset, tiny_evaluator, model, tmp_path, capsys):
    main([
        "--model_path", str(model), "--dataset", str(pool_dataset), "--evaluator", str(tiny_evaluator), "--num_motions", "32",
        "--sampling_steps", "20", "1", "3", "--probe_seeds", "1", "--device", "cpu", "--output_dir", str(tmp_path / "report"),
    ])  # fmt: skip
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    with open(tmp_path / "report" / "report.csv") as file:
        table = list(csv.DictReader(file))
    assert [row["sampling steps"] for row in table] == ["real motion", "1", "3", "20"] and not table[0]["CPU ms / motion"]
    assert report["rows"]["1"]["cpu_ms"] < report["rows"]["20"]["cpu_ms"]
    assert report["real"]["fid"] < min(row["fid"] for row in report["rows"].values())
    assert report["least_enough"] in (1, 3, 20)
    assert f"{report['least_enough']} is the least number of steps that loses" in capsys.readouterr().out
    assert report["settings"]["motions"] == 32 and set(report["made_from"]) == {"dataset", "evaluator", "model"}
