"""The evaluator: what its embeddings depend on and what not, its words, its files, what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from data_loaders.features import Features, FeaturesMismatch, Statistics
from data_loaders.text import Caption
from model.checkpoints import from_pretrained, save_pretrained
from model.embedding import TextMotionSpace
from model.evaluator_config import EvaluatorConfig, LengthEstimatorConfig
from model.evaluator_losses import draw_shift, matching_loss, pull, push
from model.evaluator_words import GloveWords, MinilmWords, load_words
from model.evaluators import GuoEvaluator, LengthEstimator, sample_lengths
from model.official import evaluators as official
from model.text_encoders import TextFeatures
from protos.reading import FileError
from sample.generation import load
from tests.synthetic import write_vocabulary

SMALL = dict(movement_hidden=16, movement_latent=12, text_hidden=12, motion_hidden=14, embedding=10)


def statistics(mean=0.5, std=2.0):
    return Statistics(np.full(263, mean), np.full(263, std), EvaluatorConfig().features)


@pytest.fixture(scope="module")
def evaluator():
    torch.manual_seed(0)
    config = EvaluatorConfig(**SMALL)
    return GuoEvaluator(config, statistics()).eval()


def motions(*lengths, seed=0):
    draw = np.random.default_rng(seed)
    return [draw.normal(size=(frames, 263)).astype(np.float32) for frames in lengths]


def words(*lengths, dim=300, seed=0):
    generator = torch.Generator().manual_seed(seed)
    pos = torch.eye(15)[torch.randint(0, 15, (len(lengths), 22), generator=generator)]
    tokens = torch.cat([torch.randn(len(lengths), 22, dim, generator=generator), pos], dim=-1)
    return TextFeatures(None, tokens, torch.arange(22) < torch.tensor(lengths)[:, None])


def test_a_motion_has_one_embedding_whatever_stands_beside_it(evaluator):
    clips = motions(60, 196, 24, 192, 61, 8)
    together = evaluator.encode_motion(clips)
    for batch_size in (1, 2, 5):
        torch.testing.assert_close(evaluator.encode_motion(clips, batch_size), together, rtol=1e-5, atol=1e-6)
    order = [3, 0, 5, 1, 4, 2]
    torch.testing.assert_close(evaluator.encode_motion([clips[i] for i in order]), together[order], rtol=1e-5, atol=1e-6)


def test_little_padding_is_as_good_as_padding_to_196_frames(evaluator):
    clips = motions(40, 60)
    motion, lengths = evaluator.normalised(clips)
    assert motion.shape[1] == 64 and (motion[0, 40:] == 0).all()
    whole = torch.nn.functional.pad(motion, (0, 0, 0, 196 - 64))
    torch.testing.assert_close(evaluator.embed_motion(motion, lengths), evaluator.embed_motion(whole, lengths))


def test_what_stands_just_beyond_the_end_is_seen_and_what_stands_later_is_not(evaluator):
    motion, lengths = evaluator.normalised(motions(40, 60))
    near, far = motion.clone(), motion.clone()
    near[0, 41], far[0, 43:] = 5.0, 5.0
    with torch.no_grad():
        base, leaking, same = (evaluator.embed_motion(x, lengths)[0] for x in (motion, near, far))
    assert (base - leaking).abs().max() > 1e-4
    torch.testing.assert_close(base, same)


def test_contacts_are_not_read_and_normalisation_is_the_evaluators_own(evaluator):
    clip = motions(48)[0]
    changed = clip.copy()
    changed[:, -4:] += 1.0
    torch.testing.assert_close(evaluator.encode_motion([clip]), evaluator.encode_motion([changed]))
    other = GuoEvaluator(evaluator.config, statistics(mean=0.0, std=1.0)).eval()
    other.networks.load_state_dict(evaluator.networks.state_dict())
    torch.testing.assert_close(other.encode_motion([(clip - 0.5) / 2.0]), evaluator.encode_motion([clip]),
                               rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("bad, message", [
    (np.zeros((3, 263)), "3 frames, this model reads 4 to 196"),
    (np.zeros((197, 263)), "197 frames"),
    (np.zeros((40, 251)), r"shape \(40, 251\), this model reads \(frames, 263\)"),
    (np.full((40, 263), np.nan), "motion 1 holds NaN"),
])  # fmt: skip
def test_motions_that_cannot_be_judged_are_named(evaluator, bad, message):
    with pytest.raises(ValueError, match=message):
        evaluator.encode_motion([motions(40)[0], bad])


def test_words_beyond_the_length_of_a_text_have_no_influence(evaluator):
    given = words(5, 22, 9)
    changed = replace(given, tokens=given.tokens.clone())
    changed.tokens[0, 5:] = 7.0
    torch.testing.assert_close(evaluator.embed_words(given), evaluator.embed_words(changed))
    torch.testing.assert_close(evaluator.embed_words(given[[2, 0]]), evaluator.embed_words(given)[[2, 0]])


def test_other_features_are_refused(evaluator):
    space = TextMotionSpace(evaluator)
    space.require(Features("humanml", 20.0, "published"), "dataset a")
    for other in (Features("humanml", 20.0, "continuous"), Features("kit", 12.5, "published")):
        with pytest.raises(FeaturesMismatch, match="the evaluator"):
            space.require(other, "dataset b")
    with pytest.raises(FeaturesMismatch):
        GuoEvaluator(EvaluatorConfig(**SMALL, features=Features(heading="continuous")), statistics())
    with pytest.raises(FeaturesMismatch, match="251"):
        GuoEvaluator(EvaluatorConfig(**SMALL), Statistics(np.zeros(251), np.ones(251), EvaluatorConfig().features))


def test_the_movement_encoder_stays_as_it_was_trained(evaluator):
    training = GuoEvaluator(evaluator.config, statistics()).train()
    frozen = training.networks["movement_encoder"]
    assert not any(module.training for module in frozen.modules()) and training.networks["text_encoder"].training
    assert not any(p.requires_grad for p in frozen.parameters())


def test_negatives_are_other_motions_and_count_only_within_the_margin():
    a = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
    assert {draw_shift(3, torch.Generator().manual_seed(seed)) for seed in range(40)} == {1, 2}
    with pytest.raises(ValueError, match="at least 2"):
        draw_shift(1)
    assert pull(a, a) < 1e-9 and push(a, a + 20.0) == 0
    assert push(a, a).item() == pytest.approx(100, abs=1e-3)
    terms = matching_loss(a, a, shift=3)
    expected = push(a, torch.cat([a[3:], a[:3]]))
    torch.testing.assert_close(terms["negative"], expected)


def test_lengths_follow_their_chances_and_short_ones_are_drawn_again():
    logits = torch.full((4000, 50), -40.0)
    logits[:, [2, 30]] = 0.0
    frames = sample_lengths(logits, 10, torch.Generator().manual_seed(0))
    assert set(frames.tolist()) == {8, 120}
    assert (frames == 8).float().mean() == pytest.approx(1 / 8, abs=0.02)  # three draws have to be short
    assert (sample_lengths(logits, 0, torch.Generator().manual_seed(0)) == 8).float().mean() == pytest.approx(0.5, abs=0.03)


def test_minilm_reads_texts_without_a_tagger():
    source = MinilmWords()
    features = source.encode([Caption("a person waves the left hand"), Caption("someone bows")])
    assert features.tokens.shape[::2] == (2, source.word_dim) and source.pos_dim == 0
    assert features.lengths[0] > features.lengths[1] > 2


def test_glove_words_are_tagged_where_a_caption_has_no_tokens(tmp_path):
    source = load_words("auto", write_vocabulary(tmp_path, "walk", "left"), tagger="lexicon")
    assert isinstance(source, GloveWords)
    told = Caption("walks left", ("walk/VERB", "left/ADV"))
    given, tagged = source.encode([told]), source.encode(["walks left"])
    assert given.tokens.shape == (1, 22, 300 + 15) and given.lengths.tolist() == [4]
    torch.testing.assert_close(given.tokens[..., :300], tagged.tokens[..., :300])
    known = load_words("glove", tmp_path, [told])
    torch.testing.assert_close(known.encode(["walks left"]).tokens, given.tokens)
    assert "_tagger" in vars(source) and "_tagger" not in vars(known)
    (tmp_path / "our_vab_words.pkl").write_bytes(b"no pickle")
    with pytest.raises(FileError):
        load_words("glove", tmp_path)


def test_tokens_of_another_tagger_are_not_read_those_of_unknown_origin_are(tmp_path):
    told = Caption("walks his dog", ("walk/VERB", "his/PRON", "dog/NOUN"), tagger="spacy")
    vocabulary = write_vocabulary(tmp_path, "walk", "his", "dog")
    words = GloveWords(vocabulary, tagger="lexicon")
    assert words._tokens([told, replace(told, tagger="lexicon"), replace(told, tagger=""), told.text]) == [
        ["walk/VERB", "his/DET", "dog/NOUN"], told.tokens, told.tokens, ["walk/VERB", "his/DET", "dog/NOUN"]]
    assert GloveWords(vocabulary, [told], "lexicon")._tokens([told.text]) == words._tokens([told])
    assert GloveWords(vocabulary, [told], "spacy")._tokens([told.text, told]) == [told.tokens] * 2


def test_an_evaluator_says_whose_parts_of_speech_it_reads(tmp_path):
    assert {config.tagger for _, config in official.DATASETS.values()} == {"spacy"}
    assert from_pretrained("tests/earlier/evaluator").config.tagger == "lexicon"  # which does not say it
    reader = GuoEvaluator(EvaluatorConfig(**SMALL, words="glove", tagger="spacy"), statistics())
    vocabulary = write_vocabulary(tmp_path)
    reader.read_through(GloveWords(vocabulary, tagger="spacy"))
    with pytest.raises(ValueError, match="reads the parts of speech of spacy, not of lexicon"):
        reader.read_through(GloveWords(vocabulary, tagger="lexicon"))


def test_words_come_through_minilm_where_no_vectors_are(tmp_path):
    assert load_words("auto", tmp_path).name == "minilm"
    with pytest.raises(FileNotFoundError, match=r"protos\.fetch"):
        load_words("glove", tmp_path)
    with pytest.raises(ValueError, match="auto, glove or minilm"):
        load_words("fasttext", tmp_path)


def test_a_checkpoint_keeps_weights_statistics_and_features(evaluator, tmp_path):
    save_pretrained(tmp_path / "evaluator", evaluator, "# Card", half=True)
    again = from_pretrained(tmp_path / "evaluator", systems=("evaluator",))
    assert again.config == evaluator.config and not again.networks.training
    clips = motions(40, 80)
    torch.testing.assert_close(again.encode_motion(clips), evaluator.encode_motion(clips), rtol=0, atol=5e-3)
    with pytest.raises(FileError, match="kind evaluator, needed is lsremgm or latent or "):
        load(tmp_path / "evaluator", "cpu")


def published_file(path, content, **parts):
    """A published file at `path` that holds the weights of the given networks under their published names."""
    for published, (kind, network) in parts.items():
        content[published] = {official.evaluator_name(key, kind): value for key, value in network.state_dict().items()}
    path.parent.mkdir(parents=True)
    torch.save(content, path)


def test_the_published_evaluator_loads_with_its_own_statistics(tmp_path):
    model = GuoEvaluator(EvaluatorConfig(), official.evaluator_statistics("humanml"))
    file = tmp_path / "t2m" / official.EVALUATOR_FILE
    names = ("text_encoder", "motion_encoder", "movement_encoder")
    published_file(file, {"epoch": 28, "iter": 1, "opt_text_encoder": {}, "opt_motion_encoder": {}},
                   **{name: (name, model.networks[name]) for name in names})
    for folder in (tmp_path, tmp_path / "t2m"):
        loaded = official.load_evaluator(folder, "humanml")
        assert from_pretrained(folder, systems=("evaluator",)).config == loaded.config  # told by its files
        clips = motions(40, 60)
        torch.testing.assert_close(loaded.encode_motion(clips), model.eval().encode_motion(clips))
    assert loaded.std[0] < loaded.std[3] < loaded.std[4:67].mean()  # root weighs 25 times as much
    with pytest.raises(FileError, match="absent"):
        official.load_evaluator(tmp_path, "kit")
    torch.save({**torch.load(file, weights_only=True), "surprise": 1}, file)
    with pytest.raises(FileError, match="surprise"):
        official.load_evaluator(tmp_path)


def test_the_published_length_estimator_loads(tmp_path):
    model, file = LengthEstimator(LengthEstimatorConfig()), tmp_path / "t2m" / official.LENGTHS
    published_file(file, {"epoch": 1, "niter": 2, "opt_estimator": {}}, estimator=("length_estimator", model.networks))
    loaded = official.load_length_estimator(tmp_path, "humanml")
    given = words(5, 9)
    torch.testing.assert_close(loaded.logits(given), model.eval().logits(given))
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(FileError, match=r"damaged or not a file of torch\.save"):
        official.load_length_estimator(tmp_path, "humanml")


def test_carried_statistics_are_those_of_the_evaluators_not_of_the_datasets():
    dataset = Statistics.published("HumanML3D", official.evaluator_statistics("humanml").features).std
    for name, width in (("humanml", 263), ("kit", 251)):
        assert official.evaluator_statistics(name).std.shape == (width,)
    ratio = dataset / official.evaluator_statistics("humanml").std
    assert ratio[0] == pytest.approx(25, abs=0.5) and ratio[100] == pytest.approx(1, abs=0.01)
