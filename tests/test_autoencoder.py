"""The motion autoencoder and the augmentations around it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from data_loaders.batch_plan import balanced_weights
from data_loaders.batches import TextMotionDataset
from data_loaders.corpus import Batch, Corpus
from data_loaders.features import Features, Statistics
from data_loaders.humanml_features import features_from_joints, joints_from_features
from data_loaders.repeats import FADE, can_repeat, loop_gap, repeat_clip
from data_loaders.skeleton import load_skeleton
from model.autoencoder import AutoencoderNetwork, MotionAutoencoder, columns_of, correlation, covariance
from model.autoencoder_config import AutoencoderConfig
from model.checkpoints import from_pretrained, load_part, save_pretrained
from model.layers import Posterior
from model.lsremgm import Latent
from model.lsremgm_config import LatentConfig
from model.model import Draws
from protos.reading import FileError
from tests.synthetic import raise_hand, walk
from train.export import ExportOptions
from train.export import run as export
from train.train_autoencoder import AutoencoderOptions
from train.train_autoencoder import run as train_autoencoder

CONTINUOUS = Features("humanml", 20.0, "continuous")
SKELETON = load_skeleton("humanml")
TINY = AutoencoderConfig(latent_channels=8, width=16, num_blocks=1, fine_width=8, num_fine_blocks=1,
                         features=CONTINUOUS)  # fmt: skip


def model(config: AutoencoderConfig = TINY, statistics: Statistics | None = None) -> MotionAutoencoder:
    torch.manual_seed(0)
    made = MotionAutoencoder(config, statistics)
    for name, parameter in made.networks.named_parameters():
        if "conv2" in name:  # zero at the start, so that blocks would not be seen
            torch.nn.init.normal_(parameter, std=0.1)
    return made.eval()


def network() -> AutoencoderNetwork:
    return model().network


def reconstruction_terms(predicted, target, mask, features=CONTINUOUS) -> dict:
    """Of columns in their units."""
    return model(replace(TINY, features=features)).reconstruction_terms(predicted, target, mask)


def features(joints: np.ndarray) -> np.ndarray:
    return features_from_joints(torch.from_numpy(joints).float(), SKELETON, heading="continuous").numpy()


def test_its_columns_are_what_joints_are_decoded_from():
    columns = columns_of(CONTINUOUS)
    assert len(columns) == model().network.columns_out[1].out_features == 71
    assert columns[:67] == list(range(67)) and columns[67:] == [259, 260, 261, 262]
    rows = torch.from_numpy(features(walk(41)))
    torch.testing.assert_close(joints_from_features(rows[:, columns[:67]], SKELETON), joints_from_features(rows, SKELETON))


def test_four_frames_make_one_latent():
    posterior = network().encode(torch.randn(2, 32, 71), torch.ones(2, 32, dtype=torch.bool))
    assert posterior.mean.shape == (2, 8, 8)
    assert network().decode(posterior.mean).shape == (2, 32, 71)


def test_padding_changes_nothing():
    net, x = network(), torch.randn(1, 24, 71)
    alone = net.encode(x, torch.ones(1, 24, dtype=torch.bool)).mean
    padded = torch.cat([x, 9 * torch.ones(1, 16, 71)], dim=1)
    mask = torch.arange(40)[None] < 24
    torch.testing.assert_close(net.encode(padded, mask).mean[:, :6], alone)
    z = torch.cat([alone, torch.randn(1, 4, 8)], dim=1)
    torch.testing.assert_close(net.decode(z, mask)[:, :24], net.decode(alone))


def test_a_recording_that_stands_still_has_no_ratios():
    still = torch.from_numpy(features(np.repeat(walk(1), 33, axis=0)))[None]
    error = model().reconstruction_error(Batch(still, torch.tensor([32]), torch.ones(1, 32, dtype=torch.bool)))
    assert {"loss", "mpjpe_mm", "path_mm"} <= error.keys() and np.isfinite([*error.values()]).all()
    assert "plant_ratio" not in error


def test_a_perfect_reconstruction_costs_nothing_but_the_feet_of_the_recording():
    rows = torch.from_numpy(features(walk(41)))[None][..., columns_of(CONTINUOUS)]
    mask = torch.ones(1, 40, dtype=torch.bool)
    terms = reconstruction_terms(rows, rows, mask)
    assert all(float(value) < 1e-6 for name, value in terms.items() if name != "plant")
    sliding = rows.clone()
    sliding[..., 2] += 0.05  # one metre per second more
    more = reconstruction_terms(sliding, rows, mask)
    assert more["path"] > 0.1 and more["velocity"] > 0.3
    standing = torch.from_numpy(features(raise_hand(41)))[None][..., columns_of(CONTINUOUS)]
    pushed = standing.clone()
    pushed[..., 2] += 0.05
    still, moved = (reconstruction_terms(p, standing, mask)["plant"]
                    for p in (standing, pushed))  # fmt: skip
    assert still < 1e-4 and moved == pytest.approx(1.0, rel=0.02)  # m/s


def test_a_small_movement_of_a_resting_joint_counts_like_a_large_one_of_a_fast_joint():
    rows = torch.from_numpy(features(raise_hand(41)))[None][..., columns_of(CONTINUOUS)]
    mask = torch.ones(1, 40, dtype=torch.bool)

    def lost(joint: str, metres: float) -> tuple[float, float]:
        """velocity and subtle terms where a joint trembles by so much that the recording does not."""
        shaken = rows.clone()
        shaken[:, ::2, 4 + 3 * (SKELETON.index(joint) - 1)] += metres
        terms = reconstruction_terms(shaken, rows, mask)
        return float(terms["velocity"]), float(terms["subtle"])

    resting, moving = lost("right_wrist", 0.01), lost("left_wrist", 0.01)
    assert resting[0] == pytest.approx(moving[0], rel=1e-3) and resting[1] > 4 * moving[1]


def test_noise_on_latents_is_measured_by_their_spread_over_real_ones():
    made = network()
    x, mask = torch.randn(5, 16, 71), torch.arange(16) < torch.tensor([16, 8, 12, 16, 4])[:, None]
    kept = mask[:, ::4, None].float()
    latents = made.encode(x, mask).mean
    real = latents[mask[:, ::4]]
    found = covariance(latents, kept)
    torch.testing.assert_close(found, torch.cov(real.T, correction=0))
    torch.testing.assert_close(covariance(7 * latents, kept), 49 * found)
    torch.testing.assert_close(correlation(found), correlation(49 * found))
    posterior = Posterior(latents, torch.full_like(latents, -12.0))
    noise = torch.randn(latents.shape)
    torch.testing.assert_close(posterior.sample(noise, 0.5), latents + 0.5 * noise, atol=1e-4, rtol=0)


def test_channels_that_say_the_same_are_correlated_whatever_their_size():
    own = torch.randn(5000, 1, generator=torch.Generator().manual_seed(0))
    other = torch.randn(5000, 1, generator=torch.Generator().manual_seed(1))
    kept = torch.ones(1, 5000, 1)
    assert correlation(covariance(torch.cat([own, -1e-3 * own], 1)[None], kept)) == pytest.approx(1.0, abs=0.02)
    assert correlation(covariance(torch.cat([own, 1e-3 * other], 1)[None], kept)) < 0.01


def test_a_decoder_is_trained_to_bear_the_noise_that_is_asked_for(small_dataset):
    corpus = Corpus.open(small_dataset)
    batch = Batch(torch.from_numpy(corpus[0][:32].copy())[None], torch.tensor([32]), torch.ones(1, 32, dtype=torch.bool))
    terms = []
    for noise in (0.0, 0.5):
        generator = torch.Generator().manual_seed(0)
        made = model(replace(TINY, latent_noise=noise), corpus.statistics)
        terms.append(made.loss(batch, Draws([generator], generator)))
    assert terms[0]["kl"] == terms[1]["kl"] and terms[0]["columns"] != terms[1]["columns"]


def test_training_the_decoder_alone_leaves_latents_and_the_models_in_them_as_they_are(tmp_path, small_dataset):
    options = AutoencoderOptions(
        save_dir=str(tmp_path / "first"), dataset=str(small_dataset), num_steps=2, batch_size=4, window_size=32, width=16,
        latent_channels=8, log_interval=1, device="cpu",
    )  # fmt: skip
    train_autoencoder(options)
    first = tmp_path / "first" / "step_000000002"
    train_autoencoder(replace(options, save_dir=str(tmp_path / "second"), autoencoder=str(first), decoder_only=True))
    before, after = (from_pretrained(folder).network for folder in (first, tmp_path / "second" / "step_000000002"))
    x, mask = torch.randn(1, 32, 71), torch.ones(1, 32, dtype=torch.bool)
    z = before.normalise(before.encode(x, mask).mean)
    assert torch.equal(after.normalise(after.encode(x, mask).mean), z)
    assert not torch.allclose(after.decode(z), before.decode(z), atol=1e-4)
    with pytest.raises(ValueError, match="needs an --autoencoder"):
        replace(options, decoder_only=True)

    folder = tmp_path / "model"
    config = LatentConfig(latent_dim=16, ff_size=16, num_layers=1, num_heads=2, text_dim=384, features=CONTINUOUS)
    latent = Latent(config, Corpus.open(small_dataset).statistics, {"autoencoder": from_pretrained(first)})
    save_pretrained(folder, latent)
    second = tmp_path / "second" / "step_000000002"
    export(ExportOptions(checkpoint=folder, output=tmp_path / "new", autoencoder=second, half=False))
    exported = from_pretrained(tmp_path / "new")
    assert torch.equal(exported.autoencoder.network.decode(z), after.decode(z))
    assert torch.equal(exported.denoiser.output_projection.weight, latent.denoiser.output_projection.weight)
    train_autoencoder(replace(options, save_dir=str(tmp_path / "other"), seed=11))
    with pytest.raises(ValueError, match="makes other latents"):
        other = tmp_path / "other" / "step_000000002"
        export(ExportOptions(checkpoint=folder, output=tmp_path / "wrong", autoencoder=other))


def test_training_writes_a_folder_that_loads_and_encodes_with_unit_spread(tmp_path, small_dataset):
    options = AutoencoderOptions(
        save_dir=str(tmp_path / "run"), dataset=str(small_dataset), num_steps=3, batch_size=4, window_size=32, width=16,
        latent_channels=8, log_interval=1, device="cpu",
    )  # fmt: skip
    train_autoencoder(options)
    autoencoder = from_pretrained(tmp_path / "run" / "step_000000003")
    net, corpus, latents = autoencoder.network, Corpus.open(small_dataset), []
    assert autoencoder.features == corpus.features and autoencoder.config.dataset == str(small_dataset)
    for i in corpus.split("train"):
        x = autoencoder.normalise(torch.from_numpy(corpus[i][: len(corpus[i]) // 4 * 4].copy())[None])
        with torch.no_grad():
            latents.append(net.normalise(net.encode(x, torch.ones(x.shape[:2], dtype=torch.bool)).mean)[0])
    latents = torch.cat(latents)
    assert latents.mean(0).abs().max() < 0.05 and (latents.std(0) - 1).abs().max() < 0.05


def test_the_starter_weights_lend_their_autoencoder():
    from sample.generation import STARTER, load

    lent = load_part(STARTER, "autoencoder", "motion_autoencoder")
    ours = load().autoencoder.networks.state_dict()
    assert all(torch.equal(value, ours[name]) for name, value in lent.networks.state_dict().items())
    assert len(lent.statistics.mean) == 263


def test_a_folder_without_autoencoder_is_refused(tmp_path):
    with pytest.raises(FileError, match="is no checkpoint"):
        load_part(tmp_path, "autoencoder", "motion_autoencoder")


def test_a_raised_hand_can_be_repeated_and_a_walk_cannot():
    hand, steps = features(raise_hand(41)), features(walk(41))
    assert loop_gap(hand, CONTINUOUS) < 0.06 and can_repeat(hand, CONTINUOUS, FADE)
    assert not can_repeat(steps, CONTINUOUS, FADE)


def test_what_stands_still_and_how_fast_joints_are_goes_by_the_frame_rate_of_the_data():
    sway, at_60 = raise_hand(41), replace(CONTINUOUS, fps=60.0)
    sway[..., 0] += 0.004 * np.arange(41)[:, None]  # 4 mm a frame: 8 cm/s at 20 fps, 24 cm/s at 60
    assert can_repeat(features(sway), CONTINUOUS, FADE) and not can_repeat(features(sway), at_60, FADE)
    rows = torch.from_numpy(features(walk(41))[:, :71].copy())[None]
    shaken, mask = rows + 0.01 * torch.randn(rows.shape), torch.ones(rows.shape[:2], dtype=torch.bool)
    slow, fast = (
        reconstruction_terms(shaken, rows, mask, each) for each in (CONTINUOUS, at_60)
    )
    assert fast["velocity"] == pytest.approx(3 * float(slow["velocity"]), rel=1e-5)
    assert fast["acceleration"] == pytest.approx(9 * float(slow["acceleration"]), rel=1e-5) and fast["path"] == slow["path"]


def test_a_repeated_clip_joins_smoothly():
    hand = features(raise_hand(41))
    thrice = repeat_clip(hand, 3, FADE, CONTINUOUS)
    assert thrice.shape == (3 * (40 - FADE) + FADE, 263)
    np.testing.assert_array_equal(thrice[: 40 - FADE], hand[: 40 - FADE])
    joints = joints_from_features(torch.from_numpy(thrice), SKELETON).numpy()
    once = joints_from_features(torch.from_numpy(hand), SKELETON).numpy()
    fastest, before = (np.linalg.norm(np.diff(j, axis=0), axis=-1).max() for j in (joints, once))
    assert fastest < 1.5 * before  # a seam without fade jumps across the arm's whole path
    wrist = joints[:, SKELETON.index("left_wrist"), 1]
    peaks = (wrist[1:-1] > wrist[:-2]) & (wrist[1:-1] >= wrist[2:]) & (wrist[1:-1] > 1.5)
    assert peaks.sum() == 3
    with pytest.raises(ValueError, match="cannot be joined"):
        repeat_clip(hand[:10], 2, FADE, CONTINUOUS)


def test_repeats_share_the_weight_of_their_clip(small_dataset):
    corpus = Corpus.open(small_dataset)
    plain, repeated = (TextMotionDataset(corpus, "train", repeat=chance) for chance in (0.0, 0.5))
    assert len(plain) < len(repeated) and set(repeated.labels("content")) == set(plain.labels("content"))
    weights = repeated.weights()
    for clip in {span.clip for span in repeated.examples}:
        rows = [i for i, span in enumerate(repeated.examples) if span.clip == clip]
        assert sum(repeated.examples[i].share for i in rows) == pytest.approx(1)
        assert weights[rows].sum() == pytest.approx(weights.sum() / len(plain))
    longest = int(np.argmax(repeated.lengths))
    assert repeated.item(longest, 0).motion.shape[0] >= repeated.lengths[longest] - 8


def test_balancing_lifts_rare_labels():
    labels = ["walk"] * 8 + ["bow"] * 2
    assert balanced_weights(labels, 0.0).tolist() == [1.0] * 10
    even = balanced_weights(labels, 1.0)
    assert even[:8].sum() == pytest.approx(even[8:].sum())


@pytest.mark.parametrize("channels", [1, 3])
def test_few_channels_and_latents_have_a_correlation(channels):
    found = correlation(covariance(torch.randn(1, 4, channels), torch.ones(1, 4, 1)))
    assert 0 <= found <= 1 and (found > 0) == (channels > 1)
    one = correlation(covariance(torch.randn(1, 1, channels), torch.ones(1, 1, 1)))  # of one latent
    assert one.isfinite()
