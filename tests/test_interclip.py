"""InterCLIP: one space for texts and motions of two people, its contrast, its published checkpoint, its training."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from data_loaders.corpus import Corpus
from data_loaders.interaction_batches import InteractionDataset
from data_loaders.text import Caption
from model.capabilities import Embeds
from model.checkpoints import from_pretrained
from model.embedding import default_evaluator, open_space
from model.interclip import InterCLIP, contrast
from model.interclip_config import TWO_PEOPLE, InterCLIPConfig
from model.model import Draws
from model.official.interclip import PREFIX, interclip_name
from model.registry import holding, published_at
from model.text_encoders import TextFeatures
from protos.flags import flags_of
from protos.reading import FileError
from tests.pairs import PAIR
from tests.tiny_people import tiny_config, tiny_interclip
from train.interclip_recipe import interclip_recipe
from train.train_interclip import InterCLIPOptions, run

WIDTH = 262


@pytest.fixture(scope="module")
def corpus(pair_dataset):
    return Corpus.open(pair_dataset)


@pytest.fixture(scope="module")
def model(judge):
    return from_pretrained(judge)


@pytest.fixture
def motions(corpus):
    return [np.array(corpus[i]) for i in range(5)]


def test_all_vectors_have_the_length_that_is_learnt_and_equal_texts_equal_bits(model, motions):
    texts = ["two people walk", "one bows", "two people walk"]
    said, done = model.encode_text(texts), model.encode_motion(motions)
    for vectors in (said, done):
        assert torch.allclose(vectors.norm(dim=-1), torch.tensor(3.0), atol=1e-5)
    assert torch.equal(said[0], said[2]) and not torch.allclose(said[0], said[1])
    assert torch.equal(model.encode_text([Caption(text) for text in texts]), said)
    assert isinstance(model, Embeds) and model.space().similarity == "euclidean"


@pytest.mark.parametrize("side_by_side", [1, 4])
def test_a_motion_has_the_same_vector_whatever_it_is_embedded_with(corpus, motions, side_by_side):
    model = InterCLIP(tiny_config(frames_per_token=side_by_side), corpus.statistics).eval()
    together = model.encode_motion(motions, batch_size=5)
    alone = torch.cat([model.encode_motion([each]) for each in motions])
    assert torch.allclose(together, alone, atol=1e-5)
    assert not torch.allclose(alone[0], model.encode_motion([motions[0][:-1]])[0], atol=1e-4)  # the last frame counts


def test_the_order_of_the_people_counts_and_contacts_do_not(model, motions):
    motion = motions[0]
    people = np.split(motion, 2, axis=1)
    assert not np.allclose(model.encode_motion([motion]), model.encode_motion([np.concatenate(people[::-1], axis=1)]), atol=1e-3)
    flipped = motion.copy()
    for person in range(2):
        contact = slice(person * WIDTH + WIDTH - 4, (person + 1) * WIDTH)
        flipped[:, contact] = 1 - flipped[:, contact]
    assert torch.equal(model.encode_motion([motion]), model.encode_motion([flipped]))


@pytest.mark.parametrize("normalised", [True, False])
def test_published_weights_read_motion_as_it_is(corpus, motions, normalised):
    torch.manual_seed(0)
    judge = InterCLIP(tiny_config(normalised=normalised), corpus.statistics).eval()
    scaled = InterCLIP(judge.config, replace(corpus.statistics, std=2 * corpus.statistics.std)).eval()
    scaled.networks.load_state_dict(judge.networks.state_dict())
    same = torch.equal(judge.encode_motion(motions), scaled.encode_motion(motions))
    assert same != normalised


def test_what_pads_a_text_to_77_tokens_is_seen_by_the_published_reader_and_not_by_that_of_words(corpus):
    torch.manual_seed(0)
    reader = InterCLIP(tiny_config(text_encoder="clip-l14-336", text_dim=16)).eval()
    ids = torch.tensor([[49406, 320, 2533, 49407]])
    short = TextFeatures(None, None, torch.ones_like(ids, dtype=torch.bool), ids)
    filled = torch.nn.functional.pad(ids, (0, 73))
    long = TextFeatures(None, None, filled > 0, filled)
    assert torch.allclose(reader.text_vectors(short), reader.text_vectors(long))
    alone = reader.networks["text_encoder"]
    with torch.no_grad():
        alone.words.weight[0] += 5.0  # the token that pads
    assert not torch.allclose(reader.text_vectors(short), InterCLIP(reader.config).eval().text_vectors(short))
    words = InterCLIP(tiny_config()).eval()
    tokens = torch.randn(1, 3, 384)
    known = TextFeatures(None, tokens, torch.ones(1, 3, dtype=torch.bool))
    padded = TextFeatures(None, torch.cat([tokens, torch.randn(1, 2, 384)], 1), torch.tensor([[True] * 3 + [False] * 2]))
    assert torch.allclose(words.text_vectors(known), words.text_vectors(padded), atol=1e-5)


def test_the_contrast_is_low_where_each_text_is_nearest_its_motion_and_at_chance_where_all_are_alike():
    vectors = 10 * torch.eye(6)
    assert contrast(vectors, vectors)["loss"] < 1e-3
    assert contrast(torch.ones(6, 3), torch.ones(6, 3))["loss"].item() == pytest.approx(math.log(6))
    wrong = contrast(vectors, vectors.roll(1, 0))
    assert wrong["loss"] > 10 and wrong["loss"] == (wrong["text_to_motion"] + wrong["motion_to_text"]) / 2


def test_captions_that_say_the_same_are_no_negatives_of_one_another(corpus):
    data = InteractionDataset(corpus, "train", mirror=False)
    batch = data.batch([_Drawn(i, 0) for i in (0, 1, 2)])
    batch.texts[2] = batch.texts[0] = "two people walk"
    same = InterCLIP(tiny_config(), corpus.statistics).same(batch)
    assert same.nonzero().tolist() == [[0, 2], [2, 0]]
    assert InterCLIP(tiny_config(duplicates="published"), corpus.statistics).same(batch) is None
    vectors = torch.randn(3, 4).requires_grad_()
    everything = ~torch.eye(3, dtype=torch.bool)
    assert contrast(vectors, vectors.detach(), everything)["loss"] == 0


class _Drawn:
    def __init__(self, index: int, number: int):
        self.index, self.number = index, number


def test_training_brings_texts_and_their_motions_together(corpus):
    options = InterCLIPOptions(save_dir="x", dataset=str(corpus.folder), batch_size=6, eval_interval=0)
    recipe = interclip_recipe(corpus, tiny_config(), options)
    torch.manual_seed(0)
    judge = recipe.build().train()
    optimizer = torch.optim.AdamW(judge.networks.parameters(), 3e-3)
    losses = []
    for step in range(40):
        loss = judge.loss(recipe.batch(step % 4, 0, 1), Draws([], torch.Generator()))["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-8:]) < 0.6 * np.mean(losses[:8])


def test_the_command_trains_a_judge_that_evaluations_open(pair_dataset, corpus, tmp_path):
    settings = {field.name: getattr(tiny_config(), field.name) for field in flags_of(InterCLIPConfig)}
    done = run(InterCLIPOptions(save_dir=str(tmp_path / "run"), dataset=str(pair_dataset), num_steps=2, eval_interval=2,
                                batch_size=4,
                                device="cpu", **settings))  # fmt: skip
    space = open_space(tmp_path / "run", data=corpus)
    assert space.similarity == "euclidean" and space.features == PAIR
    logged = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    figures = next(line for line in logged if "eval/loss" in line)
    assert figures["eval/chance1"] == pytest.approx(1 / 9) and 0 <= figures["eval/top3"] <= 1
    card = (done.checkpoint / "README.md").read_text()
    assert "12\nclips with 12 described stretches" in card and "eval_interhuman --model_path real" in card


def published_checkpoint(folder, model: InterCLIP):
    """A .ckpt as Lightning writes it, of the weights of a model."""
    state = {PREFIX + interclip_name(name): value for name, value in model.networks.state_dict().items()}
    state[f"{PREFIX}motion_encoder.sequence_pos_encoder.pe"] = torch.zeros(1, 2000, 16)
    folder.mkdir(exist_ok=True)
    torch.save({"state_dict": state, "epoch": 3, "global_step": 5, "loops": {}, "callbacks": {}}, folder / "interclip.ckpt")
    return folder / "interclip.ckpt"


@pytest.fixture
def as_published():
    torch.manual_seed(1)
    config = InterCLIPConfig(text_encoder="clip-l14-336", latent_dim=16, ff_size=8, num_layers=2, text_width=16, text_dim=16,
                             text_layers=1, embedding=4, duplicates="published")  # fmt: skip
    model = InterCLIP(config).eval()
    with torch.no_grad():
        model.networks["text_encoder"].words.weight.normal_()
        model.networks["sphere"].radius.fill_(2.7)
    return model


def test_a_published_checkpoint_is_told_by_its_names_and_gives_its_vectors(as_published, motions, tmp_path):
    file = published_checkpoint(tmp_path / "official", as_published)
    for path in (file, file.parent):
        assert published_at(path)[0].name == "interclip"
        loaded = from_pretrained(path)
        assert loaded.features == TWO_PEOPLE and loaded.config.num_layers == 2 and loaded.config.text_layers == 1
        assert torch.allclose(loaded.encode_motion(motions), as_published.encode_motion(motions), atol=1e-6)
        assert torch.allclose(loaded.encode_text(["two people walk"]), as_published.encode_text(["two people walk"]), atol=1e-6)
    (tmp_path / "other.ckpt").write_bytes(b"nothing of the kind")
    assert published_at(tmp_path / "other.ckpt")[0].name != "interclip" and holding(tmp_path) is None


@pytest.mark.parametrize(("damage", "said"), [
    (lambda state: state.pop("model.out.weight"), "no weights of InterCLIP"),
    (lambda state: state.pop("model.text_ln.bias"), "1 missing"),
    (lambda state: state.update({"model.extra": torch.zeros(1)}), "1 unexpected"),
    (lambda state: state.update({"model.out.bias": torch.full((4,), torch.nan)}), "NaN"),
])  # fmt: skip
def test_a_damaged_published_checkpoint_is_refused_in_a_line(as_published, tmp_path, damage, said):
    file = published_checkpoint(tmp_path / "official", as_published)
    content = torch.load(file)
    damage(content["state_dict"])
    torch.save(content, file)
    with pytest.raises(FileError, match=said):
        from_pretrained(file)


def test_the_judge_of_other_people_than_a_dataset_has_is_refused(pair_dataset, tmp_path):
    other = tiny_interclip(tmp_path / "other", replace(PAIR, fps=20.0))
    with pytest.raises(ValueError, match="runs at fps"):
        open_space(other, data=Corpus.open(pair_dataset))
    missing = tmp_path / "nothing"
    with pytest.raises(FileNotFoundError, match="train_interclip"):
        open_space(missing, data=Corpus.open(pair_dataset))
    assert default_evaluator(Corpus.open(pair_dataset)).name == "interclip"


@pytest.mark.parametrize("settings", [
    {"latent_dim": 15}, {"text_width": 15}, {"text_encoder": "clip-l14-336"}, {"initial_scale": 0.0}, {"num_layers": 0},
])  # fmt: skip
def test_settings_that_make_no_network_are_refused(settings):
    with pytest.raises(ValueError):
        tiny_config(**settings)
