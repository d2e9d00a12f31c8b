"""Motion tokenizers: codes of single motions, codebooks as they learn, resuming, several processes, published files."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_loaders.features import HUMANML3D, Features, Statistics
from evaluations.eval_vq import EvalVQOptions
from evaluations.eval_vq import run as eval_vq
from evaluations.protocol import REAL
from evaluations.tokens import PADDED, TOLD, joint_errors
from model.capabilities import Tokenises
from model.checkpoints import from_pretrained
from model.model import Draws
from model.official.vqvae import PREFIX, codebook_names, load_vqvae, tokenizer_name
from model.quantizers import NONE, Codebooks
from model.registry import able, published_at
from model.vqvae import VQVAE
from model.vqvae_config import PRESETS, VQVAEConfig
from protos.reading import FileError
from tests.typed import flags
from train.loop import learning_rate
from train.options import TrainOptions
from train.train_vq import VQOptions
from train.train_vq import run as train_vq

ROOT = Path(__file__).resolve().parents[1]
CONTINUOUS = Features("humanml", 20.0, "continuous")
TINY = {"num_codes": 8, "code_dim": 6, "width": 12, "depth": 2}


def model(**changes) -> VQVAE:
    """Untrained, with codes near its latents."""
    torch.manual_seed(0)
    config = VQVAEConfig(**{**TINY, "features": CONTINUOUS, **changes})
    made = VQVAE(config, Statistics(np.zeros(263, np.float32), np.ones(263, np.float32), config.features))
    made.network.codebooks.codes.normal_(std=0.2)
    made.network.codebooks.started.fill_(True)
    return made.eval()


def motions(*lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((length, 263)).astype(np.float32) for length in lengths]


@pytest.fixture
def options(small_dataset, tmp_path):
    return VQOptions(
        save_dir=str(tmp_path / "run"), dataset=str(small_dataset), num_steps=6, batch_size=4, window_size=16, num_quantizers=2,
        code_temperature=0.5, quantizer_drop=0.5, lr=1e-3, warmup_steps=0, schedule="constant", dropout=0.0, log_interval=1,
        save_interval=3, eval_interval=3, device="cpu", **TINY,
    )  # fmt: skip


def test_a_motion_has_the_same_tokens_whatever_it_is_encoded_with():
    made, given = model(num_quantizers=3), motions(40, 17, 64, 4)
    together = made.encode(given)
    assert [tuple(ids.shape) for ids in together] == [(10, 3), (4, 3), (16, 3), (1, 3)]
    assert all(torch.equal(ids, made.encode([each])[0]) for ids, each in zip(together, given, strict=True))
    back = made.decode(together)
    assert [len(each) for each in back] == [40, 16, 64, 4]
    assert all(torch.allclose(each, made.decode([ids])[0], atol=1e-5) for each, ids in zip(back, together, strict=True))
    assert isinstance(made, Tokenises) and "vqvae" in able(Tokenises)
    with pytest.raises(ValueError, match="motion 2 has 3 frames, a token is of 4"):
        made.encode(motions(8, 3))


def test_padding_colours_the_last_tokens_where_it_is_not_hidden():
    made, given = model(), motions(24)
    (own,), (padded,) = made.reconstruct(given), made.reconstruct(given, padded_to=64)
    assert own.shape == padded.shape == (24, 263)
    assert torch.allclose(made.reconstruct(given, padded_to=24)[0], own, atol=1e-5)
    assert not torch.allclose(padded[-4:], own[-4:], atol=1e-4)


def test_a_residual_codebook_tells_what_those_before_it_leave():
    books = Codebooks(3, 16, 4).eval()
    books.codes.normal_(generator=torch.Generator().manual_seed(0))
    x = torch.randn(2, 9, 4)
    coded = books(x)
    rest = x - books.codes[0][coded.ids[..., 0]]
    assert torch.equal(coded.ids[..., 1], torch.cdist(rest, books.codes[1]).argmin(-1))
    assert torch.allclose(books.vectors(coded.ids), coded.vectors, atol=1e-6)
    fewer = books(x, used=2)
    assert (fewer.ids[..., 2] == NONE).all() and torch.equal(fewer.ids[..., :2], coded.ids[..., :2])
    assert torch.allclose(books.vectors(coded.ids[..., :2]), fewer.vectors, atol=1e-6)


def test_codes_move_to_the_latents_they_stand_for_and_idle_ones_to_a_latent():
    books = Codebooks(1, 3, 2, decay=0.5).train()
    books.start(0, torch.tensor([[0.0, 0], [10, 0], [100, 100]]))
    x = torch.tensor([[[1.0, 0], [3, 0], [9, 0], [11, 2]]])
    books.update(books(x).sums, torch.randn)
    assert torch.allclose(books.counts[0], torch.tensor([1.5, 1.5, 0.5]))  # halfway from 1 to 2, 2 and 0
    assert torch.allclose(books.codes[0][:2], torch.tensor([[2 / 1.5, 0], [15 / 1.5, 1 / 1.5]]))
    assert torch.equal(books.codes[0][2], x[0, 2])  # in whose place it is


def test_a_code_of_little_use_stays_where_less_is_asked_of_it():
    books = Codebooks(1, 3, 2, decay=0.5, least_use=0.4).train()
    books.start(0, torch.tensor([[0.0, 0], [10, 0], [100, 100]]))
    x = torch.tensor([[[1.0, 0], [3, 0], [9, 0], [11, 2]]])
    books.update(books(x).sums, torch.randn)
    assert torch.allclose(books.codes[0][2], torch.tensor([100.0, 100]))  # 0.5 of the latents of a step, once
    books.update(books(x).sums, torch.randn)
    assert torch.equal(books.codes[0][2], x[0, 2])


def test_padded_latents_move_no_code():
    books = Codebooks(1, 4, 2).train()
    x, keep = torch.randn(2, 5, 2), torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    noise = torch.zeros
    first = books(x, keep, noise=noise)
    spoilt = books(torch.where(keep[..., None], x, 1e3), keep, noise=noise)
    for name in ("sum", "count", "rows"):
        assert torch.equal(first.sums[name], spoilt.sums[name])
    assert first.sums["count"].sum() == 7 and (first.ids[1, 2:] == NONE).all()


@pytest.mark.parametrize("drop, share", [(0.0, 0.0), (1.0, 1.0)])
def test_training_leaves_out_last_codebooks_as_often_as_is_asked(drop, share):
    made = model(num_quantizers=4, quantizer_drop=drop).train()
    latents, used = torch.randn(2, 4, 6), set()
    for seed in range(20):
        generators = [torch.Generator().manual_seed(seed + k) for k in range(3)]
        used.add(len(made.quantise(latents, None, Draws(generators[:2], generators[2])).sums["count"]))
    assert used == ({1, 2, 3, 4} if share else {4})


def test_training_resumes_exactly_codebooks_included(options, tmp_path):
    train_vq(options)
    train_vq(replace(options, save_dir=str(tmp_path / "other"), num_steps=3))
    train_vq(replace(options, save_dir=str(tmp_path / "other")))
    whole, resumed = (from_pretrained(tmp_path / name / "step_000000006").network.state_dict() for name in ("run", "other"))
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    assert whole["codebooks.started"].all() and (whole["codebooks.counts"] != 1).any()


def weights(folder) -> dict[str, torch.Tensor]:
    return from_pretrained(folder / "step_000000003").network.state_dict()


def test_accumulated_batches_make_one_update_of_the_codebooks_together(options, tmp_path):
    train_vq(replace(options, num_steps=3))
    train_vq(replace(options, save_dir=str(tmp_path / "two"), batch_size=2, accumulation=2, num_steps=3))
    torch.testing.assert_close(weights(tmp_path / "two"), weights(tmp_path / "run"), rtol=0, atol=2e-5)


@pytest.mark.slow
def test_two_processes_make_one_update_of_the_codebooks_together(options, tmp_path):
    train_vq(replace(options, num_steps=3))
    two = replace(options, save_dir=str(tmp_path / "two"), batch_size=2, num_steps=3, processes=2)
    done = subprocess.run([sys.executable, "-m", "train.train_vq", *flags(two)], cwd=ROOT, capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert done.returncode == 0, done.stderr
    torch.testing.assert_close(weights(tmp_path / "two"), weights(tmp_path / "run"), rtol=0, atol=2e-5)


def test_what_comes_back_is_judged_beside_what_went_in(options, tmp_path, pool_dataset, tiny_evaluator):
    train_vq(replace(options, dataset=str(pool_dataset), window_size=8))
    found = eval_vq(EvalVQOptions(model_path=str(tmp_path / "run"), dataset=str(pool_dataset), replications=1, device="cpu",
                                  evaluator=tiny_evaluator, output_dir=tmp_path / "report"))  # fmt: skip
    assert next(iter(found.rows)) == REAL and {TOLD, PADDED} <= set(found.rows)
    assert found.rows[TOLD]["fid"].mean > found.rows[REAL]["fid"].mean
    assert found.physics[TOLD]["mpjpe"] > 20 and (tmp_path / "report" / "report.md").is_file()


def test_joints_that_moved_as_a_whole_have_a_path_error_alone():
    joints = np.random.default_rng(0).standard_normal((12, 22, 3))
    found = joint_errors([joints], [joints[:8] + [0.3, 0, 0.4]])
    assert found["path_error"] == pytest.approx(500) and found["mpjpe"] == pytest.approx(0, abs=1e-9)


def test_the_learning_rate_falls_at_milestones_counted_from_the_warm_up():
    course = TrainOptions(save_dir="x", lr=1.0, warmup_steps=10, schedule="steps", milestones=(5, 20), gamma=0.1)
    assert [learning_rate(step, course) for step in (0, 9, 14, 15, 29, 30)] == pytest.approx([0.1, 1, 1, 0.1, 0.1, 0.01])
    assert PRESETS["momask"]["num_quantizers"] == 6


# ------------------------------------------------------------------------------------------------------------- published files


def published(folder, made: VQVAE, key: str, one: bool, meta: bool = True):
    """A run folder as LaMP or MoMask leave it."""
    ours, levels = made.network.state_dict(), made.config.num_levels
    state = {tokenizer_name(name, levels): value for name, value in ours.items() if not name.startswith("codebooks.")}
    state |= dict(zip(codebook_names(made.config.num_quantizers, one), ours["codebooks.codes"], strict=True))
    (folder / "model").mkdir(parents=True)
    file = folder / "model" / "net_best_fid.tar"
    torch.save({key: {f"{PREFIX if one else ''}{name}": value for name, value in state.items()}, "ep": 3}, file)
    if meta:
        (folder / "meta").mkdir()
        np.save(folder / "meta" / "mean.npy", np.arange(263, dtype=np.float32))
        np.save(folder / "meta" / "std.npy", np.full(263, 2.0, np.float32))
    return file


@pytest.mark.parametrize("key, one, quantizers", [("vq_model", True, 1), ("net", True, 1), ("vq_model", False, 3)])
def test_a_published_tokenizer_is_told_by_its_parameters_and_loads_with_its_statistics(tmp_path, key, one, quantizers):
    made = model(num_quantizers=quantizers, features=HUMANML3D, dilation_growth=3)
    file = published(tmp_path / "run", made, key, one)
    assert published_at(file)[0].name == published_at(tmp_path / "run")[0].name == "vqvae"
    loaded = from_pretrained(tmp_path / "run")
    assert (loaded.config.width, loaded.config.num_levels, loaded.config.depth) == (12, 2, 2)
    assert loaded.statistics.mean[5] == 5 and loaded.network.codebooks.started.all()
    x = torch.randn(1, 16, 263)
    assert torch.equal(loaded.network.encoder(x), made.network.encoder(x))
    assert torch.equal(loaded.network.codebooks.codes, made.network.codebooks.codes)


def test_a_file_without_statistics_is_taken_to_be_of_published_training_on_humanml3d(tmp_path):
    file = published(tmp_path / "run", model(features=HUMANML3D), "vq_model", True, meta=False)
    own, data = load_vqvae(file).statistics, Statistics.published("HumanML3D", HUMANML3D)
    assert np.allclose(own.std[:4] * 25, data.std[:4]) and np.array_equal(own.std[4:259], data.std[4:259])


@pytest.mark.parametrize("damage, said", [
    (lambda state: state.pop("vqvae.quantizer.codebook"), "holds no tokenizer of LaMP"),
    (lambda state: state.pop("vqvae.decoder.model.2.2.bias"), "1 missing"),
    (lambda state: state.update({"vqvae.encoder.model.0.weight": torch.zeros(12, 99, 3)}), "reads 99 features"),
    (lambda state: state["vqvae.encoder.model.0.bias"].fill_(float("nan")), "NaN"),
])  # fmt: skip
def test_a_damaged_published_file_is_named_with_what_is_wrong(tmp_path, damage, said):
    file = published(tmp_path / "run", model(features=HUMANML3D), "vq_model", True)
    content = torch.load(file, weights_only=True)
    damage(content["vq_model"])
    torch.save(content, file)
    with pytest.raises(FileError, match=said):
        load_vqvae(file)
