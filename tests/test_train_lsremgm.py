"""The command `train.train_lsremgm` as a user runs it, on a small made-up dataset."""

import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from data_loaders.corpus import Corpus
from data_loaders.features import Statistics
from model.autoencoder import MotionAutoencoder
from model.autoencoder_config import AutoencoderConfig
from model.checkpoints import from_pretrained, save_pretrained
from model.lsremgm import LSReMGM
from model.lsremgm_config import LSReMGMConfig
from model.text_encoders import TextEncoder
from protos.flags import configured
from tests.published_weights import ARGS, published
from tests.synthetic import CONTENTS, random_corpus
from tests.typed import flags
from train.checkpoints import complete, read_training_state
from train.generator_recipe import generator_recipe
from train.loop import train
from train.recipe import Recipe
from train.train_latent import LatentOptions
from train.train_latent import run as run_latent
from train.train_lsremgm import LSReMGMOptions, main, run

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    return random_corpus(tmp_path_factory.mktemp("dataset"))


def small(folder: Path, save_dir: Path, **changes) -> LSReMGMOptions:
    options = LSReMGMOptions(
        save_dir=str(save_dir), dataset=str(folder), num_layers=1, latent_dim=16, ff_size=32, num_heads=2, dropout=0.0,
        diffusion_steps=10, mask_frames=True, batch_size=4, num_steps=6, log_interval=1, save_interval=3, device="cpu",
    )  # fmt: skip
    return replace(options, **changes)


def small_latent(folder: Path, save_dir: Path, autoencoder: Path, **changes) -> LatentOptions:
    options = LatentOptions(
        save_dir=str(save_dir), dataset=str(folder), autoencoder=str(autoencoder), num_layers=1, latent_dim=16, ff_size=32,
        num_heads=2, diffusion_steps=10, sampling_steps=5, batch_size=4, num_steps=2, log_interval=1, save_interval=3,
        eval_interval=0, device="cpu",
    )  # fmt: skip
    return replace(options, **changes)


def recipe(options: LSReMGMOptions) -> Recipe:
    return generator_recipe(LSReMGM, Corpus.open(options.dataset), configured(LSReMGMConfig, options), options)


@pytest.fixture(scope="module")
def autoencoder(dataset, tmp_path_factory) -> Path:
    """A checkpoint with a mean that is not the dataset's: it is of the data that the autoencoder was trained on."""
    own = Corpus.open(dataset).statistics
    config = AutoencoderConfig(latent_channels=8, width=16, num_blocks=1, fine_width=8, num_fine_blocks=1, features=own.features)
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("autoencoder") / "trained"
    save_pretrained(folder, MotionAutoencoder(config, Statistics(own.mean + 0.5, own.std, own.features)))
    return folder


def losses(save_dir: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (save_dir / "log.jsonl").read_text().splitlines() if '"loss"' in line]


def test_a_checkpoint_folder_alone_is_enough_to_sample(dataset, tmp_path):
    from sample.generation import generate

    result = run(small(dataset, tmp_path, eval_interval=3))
    networks = from_pretrained(result.checkpoint)
    assert networks.config.arch == "trans_dec" and networks.config.text_encoder == "minilm"
    assert networks.features.heading == "continuous" and networks.config.max_frames == 196
    prompts = (result.checkpoint / "prompts.txt").read_text().splitlines()
    assert prompts and set(prompts) <= {*CONTENTS.values(), *(f"{c} {i}" for c in CONTENTS for i in range(3))}
    (motion,) = generate(prompts[:1], [20], networks, [0])
    assert motion.joints.shape == (1, 20, 22, 3) and np.isfinite(motion.joints).all()
    for ours, saved in zip(result.model.denoiser.parameters(), networks.denoiser.parameters()):
        assert torch.equal(ours, saved)
    assert json.loads((tmp_path / "best" / "metrics.json").read_text())["step"] in (3, 6)


@pytest.mark.parametrize(
    "changes",
    [
        {"arch": "trans_enc", "mask_frames": False},
        {"arch": "trans_enc", "condition": "none", "prediction": "eps"},
        {"arch": "gru", "lambda_vel": 1.0, "noise_schedule": "linear", "diffusion_steps": 30},
        {"decoder_token": "time", "precision": "bf16", "use_ema": False},
        {"context_len": 4, "pred_len": 12, "lambda_target_loc": 1.0, "target_encoder": "multi"},
    ],
    ids=lambda changes: "-".join(map(str, changes.values())),
)
def test_every_kind_of_model_trains_and_loads_again(dataset, tmp_path, changes):
    result = run(small(dataset, tmp_path, num_steps=2, **changes))
    assert np.isfinite(losses(tmp_path)).all()
    assert from_pretrained(result.checkpoint).config == result.model.config


@pytest.mark.parametrize("changes", [
    {}, {"arch": "trans_enc", "modulation": False, "text_noise": 0.0, "word_drop": 0.0}, {"output_skip": False, "smoothing": 1.0},
    {"norm_first": False, "modulation": False, "min_snr_gamma": 0.0, "calm_power": 0.0, "repeat": 0.0, "lambda_vel": 1.0},
])  # fmt: skip
def test_latents_of_an_autoencoder_can_be_diffused(dataset, tmp_path, autoencoder, changes):
    result = run_latent(small_latent(dataset, tmp_path / "run", autoencoder, **changes))
    made, part = from_pretrained(result.checkpoint), from_pretrained(autoencoder)
    assert made.config == result.model.config and np.isfinite(losses(tmp_path / "run")).all()
    np.testing.assert_array_equal(made.statistics.mean, part.statistics.mean)
    assert made.num_channels == 8 and made.autoencoder.config == part.config
    for ours, saved in zip(part.networks.parameters(), made.autoencoder.networks.parameters()):
        assert torch.equal(ours, saved)  # frozen


def test_a_latent_run_keeps_the_autoencoder_it_began_with_and_says_so(dataset, tmp_path, autoencoder, caplog):
    first = run_latent(small_latent(dataset, tmp_path / "run", autoencoder, num_steps=3))
    other = from_pretrained(autoencoder)
    with torch.no_grad():
        for value in other.networks.parameters():
            value.add_(0.1)
    save_pretrained(tmp_path / "other", other)
    caplog.clear()
    again = run_latent(small_latent(dataset, tmp_path / "run", tmp_path / "other", num_steps=4))
    assert "the autoencoder is another than when this run began" in caplog.text and again.step == 4
    (again.checkpoint / "training_state.pt").unlink()  # its weights alone are a starting point
    options = {"resume_checkpoint": str(again.checkpoint), "num_steps": 1}
    third = run_latent(small_latent(dataset, tmp_path / "third", tmp_path / "other", **options))
    for result in (again, third):
        kept = result.model.autoencoder.networks.state_dict()
        assert all(torch.equal(value, kept[name]) for name, value in first.model.autoencoder.networks.state_dict().items())


def test_texts_are_read_by_the_threads_that_make_batches(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    threads, read = [], TextEncoder._compute

    def noted(self, texts):
        threads.append(threading.current_thread().name)
        return read(self, texts)

    monkeypatch.setattr(TextEncoder, "_compute", noted)
    options = small(dataset, tmp_path / "run", num_steps=3, num_workers=1)
    train(replace(recipe(options), captions=()), options)  # the sketch of the captions reads clauses of them at the end
    assert threads and all(name.startswith("batches") for name in threads)


def test_the_starters_former_preset_names_its_command(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--save_dir", "x", "--preset", "starter"])
    assert ended.value.code == 2 and "python -m train.train_latent" in capsys.readouterr().err


def test_two_processes_train_the_same_model_as_one_with_twice_the_batch(dataset, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    options = small(dataset, two, batch_size=4, processes=2)
    done = subprocess.run(
        [sys.executable, "-m", "train.train_lsremgm", *flags(options)], cwd=ROOT, capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    run(replace(options, save_dir=str(one), batch_size=8))
    assert losses(two) == pytest.approx(losses(one), rel=1e-4)
    a, b = (read_training_state(complete(folder)[-1])["networks"] for folder in (one, two))
    for name in a:
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=1e-5, msg=name)


def test_a_stopped_run_goes_on_by_the_same_command(dataset, tmp_path):
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    run(small(dataset, unbroken, dropout=0.1))
    run(small(dataset, broken, dropout=0.1, num_steps=4))
    run(small(dataset, broken, dropout=0.1))
    assert losses(broken) == losses(unbroken)


def test_the_same_seed_trains_alike_whether_or_not_text_features_are_at_hand(dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("first", "second"):
        run(small(dataset, tmp_path / name, num_steps=2))
    assert losses(tmp_path / "first") == losses(tmp_path / "second")


def test_a_run_keeps_the_statistics_it_began_with_and_says_so(dataset, tmp_path, caplog):
    folder = tmp_path / "data"
    shutil.copytree(dataset, folder)
    first = run(small(folder, tmp_path / "run", num_steps=3, eval_interval=3))
    caplog.clear()
    again = run(small(folder, tmp_path / "run", num_steps=3, eval_interval=3))
    assert not [record.message for record in caplog.records if record.levelname == "WARNING"]  # nothing has changed
    own = Corpus.open(folder).statistics
    changed = Statistics(own.mean + 0.3, own.std * 2, own.features)
    changed.save(folder / "corpus" / "stats.npz")
    again = run(small(folder, tmp_path / "run", num_steps=6))
    assert "has changed since" in caplog.text and "motions are still normalised as then" in caplog.text
    np.testing.assert_array_equal(again.model.statistics.mean, first.model.statistics.mean)
    fresh = run(small(folder, tmp_path / "run", num_steps=1, overwrite=True))
    np.testing.assert_array_equal(fresh.model.statistics.mean, changed.mean)


def test_sample_videos_of_the_given_prompts_are_written(dataset, tmp_path, monkeypatch):
    video = pytest.importorskip("visualize.video")
    shown = []
    monkeypatch.setattr(video, "write_video", lambda path, motions, *more, **settings: shown.append((path, motions)))
    prompts = ("a person jumps", "someone / sits ..")
    run(small(dataset, tmp_path, sample_interval=3, sample_prompts=prompts))
    folder = tmp_path / "samples" / "step_000000003"
    names = ["prompt00_a-person-jumps.mp4", "prompt01_someone-sits.mp4"]
    assert [path for path, _ in shown[:2]] == [folder / name for name in names]
    assert shown[0][1][0].joints.shape == (1, 120, 22, 3) and len(shown) == 4


def test_training_may_begin_from_the_weights_of_another_run(dataset, tmp_path):
    first = run(small(dataset, tmp_path / "first"))
    (first.checkpoint / "training_state.pt").unlink()
    options = small(dataset, tmp_path / "second", resume_checkpoint=str(first.checkpoint), num_steps=1, lr=1e-12)
    second = run(options)
    for a, b in zip(first.model.denoiser.parameters(), second.model.denoiser.parameters()):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_training_may_begin_from_published_weights(dataset, tmp_path):
    network = published(tmp_path / "mdm", {**ARGS, "unconstrained": True})
    folder = tmp_path / "data"
    shutil.copytree(dataset, folder)
    np.save(folder / "Mean.npy", np.zeros(263))
    np.save(folder / "Std.npy", np.ones(263))
    for named in (tmp_path / "mdm", tmp_path / "mdm" / "model000100000.pt"):
        options = small(
            folder, tmp_path / f"run_{named.stem}", resume_checkpoint=str(named), arch="trans_enc", condition="none",
            num_layers=2, latent_dim=32, ff_size=1024, num_heads=4, mask_frames=False, diffusion_steps=5, num_steps=1, lr=1e-12,
        )  # fmt: skip
        for ours, theirs in zip(run(options).model.denoiser.parameters(), network.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


def test_validation_uses_the_same_noise_each_time(dataset, tmp_path):
    asked = recipe(small(dataset, tmp_path, eval_interval=1))
    networks = asked.build()
    assert asked.evaluate(networks.eval(), 1) == asked.evaluate(networks, 2)


def test_padding_is_part_of_the_batch_only_where_the_model_sees_it(dataset, tmp_path):
    for mask_frames, frames in ((True, None), (False, 196)):
        batch = recipe(small(dataset, tmp_path, mask_frames=mask_frames)).batches(0, 0, 1)
        assert batch.motion.shape[1] == (frames or int(batch.lengths.max()))
        assert batch.motion[~batch.mask].abs().sum() == 0


def test_parts_of_a_batch_make_up_the_whole(dataset, tmp_path):
    halves, whole = (recipe(small(dataset, tmp_path, batch_size=size, mask_frames=False)).batches for size in (4, 8))
    parts = [halves(5, part, 2) for part in range(2)]
    batch = whole(5, 0, 1)
    assert torch.equal(torch.cat([part.motion for part in parts]), batch.motion)
    assert parts[0].texts + parts[1].texts == batch.texts


def test_older_flags_still_work(dataset, tmp_path):
    typed = (
        f"--save_dir {tmp_path} --dataset {dataset} --layers 1 --latent_dim 16 --text_encoder_type minilm --cuda False "
        "--avg_model_beta 0.5 --guidance_param 3 --device 0 --num_steps 1 --diffusion_steps 5 --use_ema --mask_frames "
        "--train_platform_type NoPlatform --lr_anneal_steps 10 --batch_size 2 --emb_trans_dec True --multi_target_cond "
        "--multi_encoder_type multi --context_len 4 --pred_len 12"
    )
    main(typed.split())
    config = from_pretrained(complete(tmp_path)[-1]).config
    assert (config.num_layers, config.guidance_scale, config.mask_frames) == (1, 3.0, True)
    assert (config.decoder_token, config.target_encoder) == ("time", "multi")
    assert json.loads((tmp_path / "options.json").read_text())["ema_decay"] == 0.5


def test_flags_that_stand_for_others():
    options = LSReMGMOptions(save_dir="x", save_interval=7)
    assert (options.resolved().arch, options.resolved().text_memory) == ("trans_dec", "tokens")
    clip = replace(options, text_encoder="clip", eval_during_training=True, gen_during_training=True).resolved()
    assert (clip.text_encoder, clip.arch, clip.text_memory) == ("clip-b32", "trans_enc", "pooled")
    assert (clip.eval_interval, clip.sample_interval) == (7, 7)
    assert replace(options, context_len=20).resolved().pred_len == 20
    with pytest.raises(ValueError, match="needs arch trans_dec"):
        replace(options, text_encoder="bert", arch="trans_enc")


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"dataset": "no_such"}, r"dataset 'no_such' not found .* data_loaders\.prepare"),
        ({"text_encoder": "elmo"}, "unknown text encoder 'elmo'"),
        ({"context_len": 3, "pred_len": 2}, "expected a multiple of 4"),
        ({"resume_checkpoint": "nowhere"}, "no training_state.pt"),
    ],
)
def test_what_cannot_be_trained_is_said_in_one_line(dataset, tmp_path, wrong, said):
    with pytest.raises((ValueError, OSError), match=said) as error:
        run(small(dataset, tmp_path, **wrong))
    assert "\n" not in str(error.value)


def test_a_latent_model_needs_an_autoencoder_of_the_same_motion(dataset, tmp_path, autoencoder):
    with pytest.raises(ValueError, match="no checkpoint at nowhere"):
        run_latent(small_latent(dataset, tmp_path, Path("nowhere")))
    with pytest.raises(ValueError, match="nor of one that stands on such a model"):
        run_latent(small_latent(dataset, tmp_path, ROOT / "checkpoints" / "tmr"))
    with pytest.raises(ValueError, match="prefix of frames"):
        small_latent(dataset, tmp_path, autoencoder, context_len=4, pred_len=4)


@pytest.mark.parametrize(
    "wrong", [{"diffusion_steps": 1}, {"noise_schedule": "linear", "diffusion_steps": 10}, {"latent_dim": 30}]
)
def test_options_that_make_no_model_are_refused(wrong):
    with pytest.raises(ValueError, match=r"(diffusion_steps|latent_dim)"):
        LSReMGMOptions(save_dir="x", **wrong)
