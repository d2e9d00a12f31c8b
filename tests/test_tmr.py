"""TMR and TEMOS: what their latents depend on and what not, what their losses count, what a checkpoint keeps."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from data_loaders.batches import TrainingItem, collate
from data_loaders.features import Features, FeaturesMismatch, Statistics
from data_loaders.motion_files import motion_of
from model import tmr_losses as losses
from model.capabilities import Request
from model.checkpoints import from_pretrained, save_pretrained
from model.embedder import lengths_to_mask
from model.layers import Posterior, cosines
from model.text_encoders import with_text_features
from model.text_towers import load_text_encoder
from model.tmr import TMR
from model.tmr_config import TMRConfig
from protos.reading import FileError
from sample.search import score
from train.recipe import draws_of

SMALL = dict(latent_dim=16, ff_size=24, num_layers=2, num_heads=2, text_encoder="minilm", sentence_encoder="minilm", text_dim=384,
             false_negative_threshold=0.8)  # fmt: skip
TEXTS = ["a person walks forward", "someone jumps", "a man slowly raises the left hand and then waves it", "someone bows"]


def statistics():
    draw = np.random.default_rng(0)
    return Statistics(draw.normal(size=263), draw.uniform(0.5, 2.0, 263), TMRConfig().features)


@pytest.fixture(scope="module")
def minilm():
    return load_text_encoder("minilm", disk_cache=False)


@pytest.fixture(scope="module")
def model(minilm):
    torch.manual_seed(0)
    return TMR(TMRConfig(**SMALL), statistics(), text_encoder=minilm).eval()


def motions(*lengths, seed=0):
    draw = np.random.default_rng(seed)
    return [draw.normal(size=(frames, 263)).astype(np.float32) for frames in lengths]


@pytest.fixture(scope="module")
def batch(minilm):
    items = [TrainingItem(motion, text, "", i) for i, (motion, text) in enumerate(zip(motions(40, 44, 61, 50), TEXTS))]
    return with_text_features(collate(items), {"words": minilm, "sentences": minilm})


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-4, atol=2e-6)


def test_a_motion_has_one_latent_whatever_stands_beside_it(model):
    clips = motions(60, 200, 24, 1, 61)
    together = model.encode_motion(clips)
    for batch_size in (1, 2, 5):
        close(model.encode_motion(clips, batch_size), together)
    order = [3, 0, 4, 1, 2]
    close(model.encode_motion([clips[i] for i in order]), together[order])
    close(model.encode_motion(clips[2:3])[0], together[2])


def test_a_text_has_one_latent_and_equal_texts_have_equal_bits(model):
    together = model.encode_text([*TEXTS, TEXTS[1]])
    assert torch.equal(together[1], together[4])
    for i, text in enumerate(TEXTS):
        close(model.encode_text([text])[0], together[i])
    assert model.encode_text([]).shape == (0, 16) and model.encode_motion([]).shape == (0, 16)


def test_what_padding_holds_has_no_influence(model):
    motion = torch.randn(2, 30, 263, generator=torch.Generator().manual_seed(0))
    mask = lengths_to_mask(torch.tensor([30, 12]))
    changed = torch.where(mask[..., None], motion, 9.0)
    close(model.motion_posterior(motion, mask).mean, model.motion_posterior(changed, mask).mean)


def test_the_order_of_frames_and_of_words_is_heard(model):
    (clip,) = motions(40)
    forward, backward = model.encode_motion([clip, clip[::-1].copy()])
    assert (forward - backward).abs().max() > 1e-3
    first, second = model.encode_text(["he sits, then he jumps", "he jumps, then he sits"])
    assert (first - second).abs().max() > 1e-4


def test_the_mean_is_the_same_at_every_call_and_samples_are_not(model):
    clips = motions(40)
    assert torch.equal(model.encode_motion(clips), model.encode_motion(clips))
    posterior = model.text_posterior(model.word_features(TEXTS))
    noise = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))
    assert torch.equal(posterior.sample(0 * noise), posterior.mean)
    spread = posterior.sample(2 * noise) - posterior.mean
    torch.testing.assert_close(spread, 2 * (posterior.sample(noise) - posterior.mean))


def test_without_a_vae_a_sample_is_the_vector_itself(minilm, batch):
    plain = TMR(TMRConfig(**SMALL, vae=False), statistics(), text_encoder=minilm).eval()
    posterior = plain.text_posterior(plain.word_features(TEXTS))
    assert torch.equal(posterior.sample(torch.ones(4, 16)), posterior.mean)
    terms = plain.loss(batch, draws_of(0, range(4)))
    assert "kl" not in terms
    terms["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in plain.networks.parameters())


def test_a_decoded_motion_is_as_long_as_asked_for_and_zero_beyond(model):
    mask = lengths_to_mask(torch.tensor([7, 20]))
    made = model.decode(torch.randn(2, 16), mask)
    assert made.shape == (2, 20, 263) and (made[0, 7:] == 0).all() and (made[0, :7] != 0).any()


def test_a_generated_motion_follows_from_its_seed_alone(model):
    requests = [Request(text, frames, seed) for text, frames, seed in zip(TEXTS, (20, 48, 8, 30), (1, 2, 3, 4), strict=True)]
    made = model.generate(requests)
    assert [len(features) for features in made] == [20, 48, 8, 30]
    close(model.generate(requests[2:3])[0], made[2])
    assert (model.generate([replace(requests[2], seed=5)])[0] - made[2]).abs().max() > 1e-3
    motion = motion_of(made[0], model.features, TEXTS[:1])
    assert motion.joints.shape == (1, 20, 22, 3) and motion.fps == 20.0
    with pytest.raises(ValueError, match="1 to 5000 frames, not 0"):
        model.generate([Request(TEXTS[0], 0)])


def test_motion_is_normalised_by_the_models_own_statistics(model):
    (clip,) = motions(40)
    other = TMR(model.config, Statistics(np.zeros(263), np.ones(263), model.config.features)).eval()
    other.networks.load_state_dict(model.networks.state_dict())
    own = model.statistics
    close(other.encode_motion([(clip - own.mean) / own.std]), model.encode_motion([clip]))


@pytest.mark.parametrize("bad, message", [
    (np.zeros((0, 263)), "motion 1 has 0 frames, this model reads 1 to 4998"),
    (np.zeros((40, 251)), r"shape \(40, 251\), this model reads \(frames, 263\)"),
    (np.full((40, 263), np.nan), "motion 1 holds NaN"),
])  # fmt: skip
def test_motions_that_cannot_be_read_are_named(model, bad, message):
    with pytest.raises(ValueError, match=message):
        model.encode_motion([motions(40)[0], bad])


def test_scores_lie_between_0_and_1_with_one_half_for_what_is_unrelated():
    a = torch.eye(3)
    b = torch.stack([5 * a[0], -a[1], torch.zeros(3)])
    expected = torch.tensor([[1, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0.5]])
    torch.testing.assert_close(torch.from_numpy(score(cosines(a, b).numpy())), expected)
    assert (cosines(a, b)[:, 2] == 0).all()


# ------------------------------------------------------------------------------------------------------------ losses


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_pairs_whose_captions_mean_the_same_get_no_gradient():
    sentences = unit(5, 8)
    sentences[3] = sentences[1]
    logits = torch.randn(5, 5, generator=torch.Generator().manual_seed(1), requires_grad=True)
    mask = losses.false_negatives(sentences, 0.95)
    assert mask.nonzero().tolist() == [[1, 3], [3, 1]]
    for loss in (losses.info_nce, losses.hard_negative_nce):
        (gradient,) = torch.autograd.grad(loss(logits.masked_fill(mask, -torch.inf)), logits)
        assert (gradient[mask] == 0).all() and (gradient[~mask] != 0).all()
        assert (gradient.diagonal() < 0).all()


@pytest.mark.parametrize("loss", [losses.info_nce, losses.hard_negative_nce])
def test_a_batch_of_one_caption_teaches_nothing_and_breaks_nothing(loss):
    text, motion = unit(6, 8).requires_grad_(), unit(6, 8, seed=1)
    value = loss(losses.contrast_logits(text, motion, 0.1, losses.Captions(unit(1, 4).expand(6, -1)), 0.8))
    value.backward()
    assert value.abs() < 2e-3 and text.grad.abs().max() < 1e-6


def test_bfloat16_decides_neither_cosines_nor_who_is_a_false_negative():
    draw = torch.Generator().manual_seed(0)
    text, motion = (torch.randn(64, 32, generator=draw) for _ in range(2))
    sentences = torch.nn.functional.normalize(torch.randn(64, 4, generator=draw), dim=-1)
    expected = losses.contrast_logits(text, motion, 0.1, losses.Captions(sentences), 0.8)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(losses.contrast_logits(text, motion, 0.1, losses.Captions(sentences), 0.8), expected)
    assert not losses.false_negatives(sentences[:1].expand(3, -1), 1.0).any()  # nothing is above a score of 1


def test_noise_is_drawn_for_texts_first():
    noise = losses.LatentNoise.draw(torch.zeros(3, 5), torch.Generator().manual_seed(4))
    draw = torch.Generator().manual_seed(4)
    for each in (noise.text, noise.motion):
        assert torch.equal(each, torch.randn(3, 5, generator=draw))


def test_posteriors_are_float32_whatever_the_networks_compute_in(model):
    with torch.autocast("cpu", torch.bfloat16):
        posterior = model.motion_posterior(torch.randn(2, 8, 263), torch.ones(2, 8, dtype=torch.bool))
    assert posterior.mean.dtype == posterior.log_variance.dtype == torch.float32


def test_a_threshold_of_0_or_no_sentences_filters_nothing():
    text, motion, captions = unit(4, 8), unit(4, 8, seed=1), losses.Captions(unit(1, 4).expand(4, -1))
    for given in (losses.contrast_logits(text, motion, 0.1, captions, 0.0), losses.contrast_logits(text, motion, 0.1)):
        torch.testing.assert_close(given, text @ motion.T / 0.1)


def test_hard_negatives_weigh_as_their_formula_says():
    x = torch.randn(4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def one_way(s):
        total = 0.0
        for i in range(4):
            hard = sum(torch.exp(0.5 * s[i, k]) for k in range(4) if k != i)
            weights = [0.999 if j == i else 3 * torch.exp(0.5 * s[i, j]) / hard for j in range(4)]
            total -= torch.log(s[i, i].exp() / sum(w * e for w, e in zip(weights, s[i].exp())))
        return total / 4

    torch.testing.assert_close(losses.hard_negative_nce(x), (one_way(x) + one_way(x.T)) / 2)


def test_divergence_of_gaussians_is_torchs():
    draw = torch.Generator().manual_seed(0)
    q, p = (Posterior(*torch.randn(2, 3, 5, generator=draw)) for _ in range(2))
    normal = {x: torch.distributions.Normal(x.mean, (x.log_variance / 2).exp()) for x in (q, p)}
    expected = torch.distributions.kl_divergence(normal[q], normal[p]).mean()
    torch.testing.assert_close(losses.gaussian_kl(q, p), expected)
    assert losses.gaussian_kl(q, q) == 0
    unit_gaussian = Posterior(torch.zeros(3, 5), torch.zeros(3, 5))
    torch.testing.assert_close(losses.gaussian_kl(q), losses.gaussian_kl(q, unit_gaussian))


def test_the_loss_is_the_weighted_sum_of_its_terms_and_temos_has_no_contrast(model, minilm, batch):
    terms = model.loss(batch, draws_of(0, range(4)))
    expected = terms["recons"] + 1e-5 * (terms["kl"] + terms["latent"]) + 0.1 * terms["contrastive"]
    torch.testing.assert_close(terms["loss"], expected)
    temos = TMR(TMRConfig(**SMALL, lambda_contrastive=0.0), statistics(), text_encoder=minilm).eval()
    temos.networks.load_state_dict(model.networks.state_dict())
    without = temos.loss(batch, draws_of(0, range(4)))
    assert "contrastive" not in without
    torch.testing.assert_close(without["recons"], terms["recons"])


def test_training_brings_a_text_to_its_own_motion(minilm, batch):
    torch.manual_seed(1)
    config = TMRConfig(**{**SMALL, "num_layers": 1}, vae=False, dropout=0.0, lambda_contrastive=1.0)
    model = TMR(config, statistics(), text_encoder=minilm).train()
    optimizer = torch.optim.AdamW(model.networks.parameters(), 3e-3)
    for step in range(60):
        optimizer.zero_grad()
        model.loss(batch, draws_of(0, range(4), step))["loss"].backward()
        optimizer.step()
    model.eval()
    found = cosines(model.encode_text(TEXTS), model.encode_motion(motions(40, 44, 61, 50)))
    assert found.argmax(1).tolist() == [0, 1, 2, 3]


# ------------------------------------------------------------------------------------------------------- checkpoints


def test_a_checkpoint_folder_alone_is_enough(model, tmp_path):
    save_pretrained(tmp_path / "tmr", model, "# Card")
    assert sorted(file.name for file in (tmp_path / "tmr").iterdir()) == [
        "README.md", "config.json", "manifest.json", "model.safetensors", "stats.npz"]  # fmt: skip
    again = from_pretrained(tmp_path / "tmr", systems=("tmr",))
    assert again.config == model.config and not again.networks.training
    assert torch.equal(again.encode_motion(motions(40)), model.encode_motion(motions(40)))
    assert torch.allclose(again.encode_text(TEXTS), model.encode_text(TEXTS), atol=1e-6)
    with pytest.raises(FileError, match="kind tmr, needed is lsremgm"):
        from_pretrained(tmp_path / "tmr", systems=("lsremgm",))


def test_statistics_of_other_features_are_refused():
    with pytest.raises(FeaturesMismatch, match="the model"):
        TMR(TMRConfig(**SMALL, features=Features(heading="continuous")), statistics())
    with pytest.raises(FeaturesMismatch, match="of 251 features, this model reads 263"):
        TMR(TMRConfig(**SMALL), Statistics(np.zeros(251), np.ones(251), TMRConfig().features))


@pytest.mark.parametrize("wrong", [{"temperature": 0.0}, {"false_negative_threshold": 1.5}])
def test_settings_without_meaning_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TMRConfig(**wrong)


def test_the_default_has_the_published_size():
    with torch.device("meta"):
        model = TMR(TMRConfig())
    sizes = [sum(p.numel() for p in model.networks[name].parameters())
             for name in ("motion_encoder", "text_encoder", "motion_decoder")]
    assert sizes == [4_806_656, 4_935_936, 6_388_231]
