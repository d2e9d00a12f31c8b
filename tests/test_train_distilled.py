"""The command `train.train_distilled` as a user runs it: a student of a small model, on a small made-up dataset."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_loaders.corpus import Corpus
from data_loaders.features import Statistics
from data_loaders.motion_files import read_results
from model.autoencoder import MotionAutoencoder
from model.autoencoder_config import AutoencoderConfig
from model.capabilities import Request
from model.checkpoints import from_pretrained, save_pretrained
from model.lsremgm import Latent, LSReMGM
from model.lsremgm_config import LatentConfig, LSReMGMConfig
from model.text_towers import load_text_encoder
from sample.generation import generate
from sample.sample import main as sample
from tests.synthetic import random_corpus
from tests.test_train_lsremgm import losses
from train.export import ExportOptions
from train.export import run as export
from train.train_distilled import DistilledOptions, main, run

SMALL = dict(num_layers=1, latent_dim=16, ff_size=32, num_heads=2, diffusion_steps=20, dropout=0.0, text_dim=384,
             text_memory="tokens", arch="trans_dec", mask_frames=True, dataset="made_up")  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return random_corpus(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def teacher(dataset, tmp_path_factory) -> Path:
    """A model in latents that has learnt nothing, but has a way from noise to motion all the same."""
    own = Corpus.open(dataset).statistics
    torch.manual_seed(0)
    sizes = AutoencoderConfig(latent_channels=8, width=16, num_blocks=1, fine_width=8, num_fine_blocks=1, features=own.features)
    parts = {"autoencoder": MotionAutoencoder(sizes, own)}
    config = LatentConfig(**SMALL, sampling_steps=10, features=own.features)
    folder = tmp_path_factory.mktemp("teacher") / "latent"
    save_pretrained(folder, Latent(config, own, parts))
    return folder


def of_frames(corpus: Corpus, folder: Path, changes: dict) -> None:
    """Saves a teacher of frames, with its own mean and std."""
    torch.manual_seed(0)
    config = LSReMGMConfig(**{**SMALL, **changes}, features=corpus.features)
    own = Statistics(corpus.mean + 0.5, corpus.std, corpus.features)
    save_pretrained(folder, LSReMGM(config, own))


def small(teacher: Path, dataset: Path, save_dir: Path, **changes) -> DistilledOptions:
    options = DistilledOptions(
        model_path=str(teacher), dataset=str(dataset), save_dir=str(save_dir), batch_size=4, num_steps=6, log_interval=1,
        save_interval=3, eval_interval=3, parts=3, steps_per_part=2, device="cpu",
    )  # fmt: skip
    return replace(options, **changes)


def test_a_student_is_a_checkpoint_like_any_other_and_asks_its_network_once_a_step(teacher, dataset, tmp_path):
    result = run(small(teacher, dataset, tmp_path))
    student, own = from_pretrained(tmp_path), from_pretrained(teacher)
    changed = {"sampler": "consistency", "sampling_steps": 2, "cond_mask_prob": 0.0, "guidance_scale": 1.0}
    assert student.config == replace(own.config, **changed) == result.model.config
    assert (tmp_path / "best" / "metrics.json").is_file()
    rows = []
    student.denoiser.register_forward_pre_hook(lambda module, given: rows.append((len(given[0]), int(given[1][0]))))
    (motion,) = generate(["a person walks"], [20], student, [3])
    assert rows == [(1, 19), (1, 9)] and motion.joints.shape == (1, 20, 22, 3) and np.isfinite(motion.joints).all()
    generate(["a person walks"], [20], student, [3], sampling_steps=1)
    assert rows[2:] == [(1, 19)]


def test_an_exported_student_is_sampled_by_the_command_as_any_checkpoint_is(teacher, dataset, tmp_path):
    run(small(teacher, dataset, tmp_path / "run"))
    export(ExportOptions(checkpoint=tmp_path / "run", output=tmp_path / "fast", sampling_steps=1))
    assert from_pretrained(tmp_path / "fast").config.sampling_steps == 1
    sample(["--model_path", str(tmp_path / "fast"), "--text_prompt", "a person bows", "--motion_length", "2", "--no_video",
            "--num_repetitions", "2", "--output_dir", str(tmp_path / "made"), "--device", "cpu"])  # fmt: skip
    results = read_results(tmp_path / "made")
    assert [motion.joints.shape for motion in results.motions] == [(1, 40, 22, 3)] * 2
    assert not np.allclose(results.motions[0].joints, results.motions[1].joints, atol=1e-3)


def test_guidance_is_folded_in_and_cannot_be_asked_for(teacher, dataset, tmp_path, caplog):
    student = from_pretrained(run(small(teacher, dataset, tmp_path, num_steps=1)).checkpoint)
    plain, asked = (generate(["a bow"], [20], student, [3], guidance_scale=scale)[0] for scale in (None, 4.0))
    assert np.array_equal(plain.joints, asked.joints) and "ignored" in caplog.text


def test_a_sample_of_a_student_depends_on_its_seed_and_not_on_its_batch(teacher, dataset, tmp_path):
    student = from_pretrained(run(small(teacher, dataset, tmp_path, num_steps=1)).checkpoint)
    prompts, lengths = ["a person walks", "a person waves", "a person bows"], [20, 33, 12]
    together = generate(prompts, lengths, student, [5, 6, 7])
    for i in range(3):
        alone = generate([prompts[i]], [lengths[i]], student, [5 + i])[0]
        far = max(1.0, np.abs(alone.joints).max())  # an untrained model may wander off
        assert np.abs(alone.joints - together[i].joints).max() < 1e-4 * far
    assert np.abs(generate(prompts[:1], lengths[:1], student, [99])[0].joints - together[0].joints).max() > 1e-3


def test_a_student_begins_as_its_teacher_which_does_not_change(teacher, dataset, tmp_path):
    before = from_pretrained(teacher)
    result = run(small(teacher, dataset, tmp_path, num_steps=1, lr=1e-12, weight_decay=0.0))
    for own, learnt in zip(before.networks.parameters(), result.model.networks.parameters(), strict=True):
        torch.testing.assert_close(own, learnt, atol=1e-6, rtol=0)


def test_a_stopped_distillation_goes_on_exactly(teacher, dataset, tmp_path):
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    first = run(small(teacher, dataset, unbroken))
    run(small(teacher, dataset, broken, num_steps=4))
    second = run(small(teacher, dataset, broken))
    assert losses(broken) == losses(unbroken)
    for a, b in zip(first.model.networks.parameters(), second.model.networks.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_run_says_that_its_teacher_has_changed(teacher, dataset, tmp_path, caplog):
    run(small(teacher, dataset, tmp_path / "run", num_steps=3))
    other = from_pretrained(teacher)
    with torch.no_grad():
        other.denoiser.output_projection.bias.add_(0.1)
    save_pretrained(tmp_path / "other", other)
    run(small(tmp_path / "other", dataset, tmp_path / "run", num_steps=4))
    assert "its dataset or teacher, has changed since" in caplog.text


@pytest.mark.parametrize("changes", [{}, {"prediction": "v", "mask_frames": False}])
def test_a_model_of_frames_is_distilled_too_and_its_student_edits(dataset, tmp_path, changes):
    corpus = Corpus.open(dataset)
    of_frames(corpus, tmp_path / "teacher", changes)
    student = from_pretrained(run(small(tmp_path / "teacher", dataset, tmp_path / "run", num_steps=2)).checkpoint)
    student.text_encoder = load_text_encoder("minilm")
    given = torch.as_tensor(corpus.mean + corpus.std * np.random.default_rng(0).standard_normal((20, 263))).float()
    assert np.allclose(student.statistics.mean, corpus.mean + 0.5)  # the teacher's
    (made,) = student.generate([Request("a walk", 20, 1, motion=given, keep=torch.arange(20)[:, None] < 5)])
    torch.testing.assert_close(made[:5], given[:5], atol=1e-4, rtol=1e-4)
    assert (made[5:] - given[5:]).abs().max() > 0.1


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"prediction": "eps"}, "predicts noise"),
        ({"cond_mask_prob": 0.0}, "cannot be distilled"),
        ({"condition": "none", "text_dim": 0, "text_memory": "pooled"}, "cannot be distilled"),
        ({"context_len": 4, "pred_len": 12}, "cannot be distilled"),
    ],
)
def test_what_cannot_be_distilled_is_said_in_one_line(dataset, tmp_path, changes, said):
    of_frames(Corpus.open(dataset), tmp_path / "teacher", changes)
    with pytest.raises(ValueError, match=said) as error:
        run(small(tmp_path / "teacher", dataset, tmp_path / "run"))
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()


def test_more_parts_than_the_teacher_has_steps_are_refused(teacher, dataset, tmp_path):
    with pytest.raises(ValueError, match="cannot keep 41 steps"):
        run(small(teacher, dataset, tmp_path / "run", parts=20))


def test_the_command_takes_the_dataset_of_the_teacher(teacher, dataset, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dataset").mkdir()
    (tmp_path / "dataset" / "made_up").symlink_to(dataset)
    main(f"--model_path {teacher} --save_dir run --num_steps 1 --batch_size 2 --eval_interval 0 --device cpu".split())
    assert "distilled by" in (tmp_path / "run" / "step_000000001" / "README.md").read_text()
