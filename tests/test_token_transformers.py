"""Text to motion over tokens: decoding, noise and batches, guidance, given tokens, checkpoints, training."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from data_loaders.edit_masks import EditError
from diffusion.token_decoding import TokenSampling, decode_masked, draw, likeliest, num_masked, steps_of
from model.capabilities import Decoding, Generates, Request
from model.checkpoints import from_pretrained
from model.embedding import open_space
from model.lamp_losses import captioning
from model.lsremgm import LengthError
from model.registry import able
from protos.reading import FileError
from sample.generation import motions_for
from tests.tiny_tokens import CONTINUOUS, saved, tiny_lamp, tiny_residual, tiny_tokenizer, tiny_transformer
from train.checkpoints import complete, read_training_state
from train.export import ExportOptions
from train.export import run as export
from train.train_lamp import LaMPOptions
from train.train_lamp import run as train_lamp
from train.train_t2m_transformer import T2MTransformerOptions
from train.train_t2m_transformer import run as train

WAVE, WALK = "a person waves", "a person walks forward"


@pytest.mark.parametrize("length", [1, 7, 49])
def test_ever_fewer_tokens_are_masked_all_at_first_one_at_last(length):
    counts = [int(num_masked(torch.tensor([length]), progress)) for progress in steps_of(10)]
    assert counts[0] == length and counts[-1] == 1 and counts == sorted(counts, reverse=True)


def test_only_the_likeliest_codes_are_drawn_as_often_as_they_are_likely():
    logits = torch.tensor([0.0, 1.0, 2.0, 3.0]).repeat(20_000, 1)
    assert likeliest(logits, 0.5)[0].isinf().tolist() == [True, True, False, False]
    gumbel = -(-torch.rand(logits.shape, generator=torch.Generator().manual_seed(0)).log()).log()
    drawn = draw(logits, TokenSampling(2.0, 0.5), gumbel)
    assert float((drawn == 3).float().mean()) == pytest.approx(float(torch.tensor([1.0, 1.5]).softmax(0)[1]), abs=0.02)
    assert (draw(logits, TokenSampling(0.0, 0.5), gumbel) == 3).all() and (draw(logits, TokenSampling(), None) == 3).all()


def test_tokens_that_stay_are_seen_and_kept_and_the_surest_are_never_taken_back():
    asked = []

    def logits(ids):
        asked.append(ids.clone())
        return torch.arange(5.0).expand(*ids.shape, 5) * torch.arange(1, ids.shape[1] + 1)[:, None]  # later ones are surer

    given, open_to = torch.tensor([[0, 1, 2, 3]]), torch.tensor([[True, False, True, True]])
    made = decode_masked(logits, given, open_to, 9, 3)
    assert made.tolist() == [[4, 1, 4, 4]] and all(ids[0, 1] == 1 for ids in asked)
    assert [(ids == 9).sum().item() for ids in asked] == [3, 2, 1] and asked[1].tolist() == [[9, 1, 9, 4]]


@pytest.fixture(params=["pooled", "lamp", "frozen lamp", "padding seen", "residual"])
def model(request):
    if request.param == "residual":
        return tiny_residual()
    if request.param == "lamp":
        return tiny_transformer({"lamp": tiny_lamp()})
    if request.param == "frozen lamp":
        return tiny_transformer({"lamp": tiny_lamp()}, lamp_condition="frozen")
    if request.param == "padding seen":
        return tiny_transformer(key_padding=False, attention="tril_plus_one")
    return tiny_transformer()


def test_a_motion_depends_on_its_own_request_alone(model):
    requests = [Request(WAVE, 40, 1), Request(WALK, 17, 2), Request(WAVE, 23, 3)]
    together = model.generate(requests)
    assert isinstance(model, Generates) and [tuple(each.shape) for each in together] == [(40, 263), (17, 263), (23, 263)]
    for made, request in zip(together, requests, strict=True):
        assert torch.allclose(made, model.generate([request])[0], atol=1e-5)
    assert not torch.allclose(together[0][:17], model.generate([replace(requests[0], seed=9)])[0][:17], atol=1e-3)
    assert len(motions_for(model, requests)[1].joints[0]) in (17, 18)


def test_guidance_moves_a_motion_away_from_one_without_a_text(model):
    request = Request(WAVE, 24, 1)
    plain, strong = (model.generate([request], Decoding(scale, temperature=0.0))[0] for scale in (1.0, 30.0))
    assert not torch.allclose(plain, strong, atol=1e-3)
    with pytest.raises(ValueError, match=r"sampler.*this model decodes tokens"):
        model.generate([request], Decoding(sampler="ddim"))
    with pytest.raises(LengthError, match="1 to 196"):
        model.generate([replace(request, frames=197)])


def test_tokens_of_a_given_motion_stay_where_all_their_frames_do():
    model = tiny_transformer()
    motion = torch.randn(32, 263)
    keep = torch.zeros(32, 1, dtype=torch.bool)
    keep[:14] = True
    ids = model.make_ids([Request(WAVE, 32, 1, motion=motion, keep=keep)], Decoding())[0][:, 0]
    assert torch.equal(ids[:3], model.tokenizer.encode([motion.numpy()])[0][:3, 0])
    part = torch.zeros(32, 263, dtype=torch.bool)
    part[:, :9] = True
    with pytest.raises(EditError, match="body parts cannot"):
        model.generate([Request(WAVE, 32, 1, motion=motion, keep=part)])


def test_a_checkpoint_alone_is_enough_and_leaves_the_installed_language_model_out(tmp_path):
    model = tiny_transformer({"lamp": tiny_lamp()})
    folder = saved(tmp_path / "model", model)
    loaded = from_pretrained(folder)
    request = [Request(WALK, 20, 4)]
    assert torch.equal(loaded.generate(request)[0], model.generate(request)[0])
    assert (folder / "parts/lamp/parts/tokenizer/model.safetensors").is_file()
    assert (folder / "parts/lamp/model.safetensors").stat().st_size < 3_000_000  # the vocabulary alone has 11 million values
    assert {"t2m_transformer", "residual_transformer"} <= set(able(Generates))
    config = folder / "parts/lamp/config.json"
    config.write_text(config.read_text().replace('"text_weights": "', '"text_weights": "0'))
    with pytest.raises(FileError, match="stands on another minilm"):
        from_pretrained(folder / "parts/lamp")


@pytest.fixture
def options(small_dataset, tmp_path):
    tokenizer = saved(tmp_path / "tokens", tiny_tokenizer(3))
    return T2MTransformerOptions(
        save_dir=str(tmp_path / "run"), dataset=str(small_dataset), tokenizer=str(tokenizer), num_steps=4, batch_size=4,
        latent_dim=16, ff_size=16, num_layers=1, num_heads=2, warmup_steps=0, lr=1e-3, log_interval=1, save_interval=2,
        eval_interval=2, keep_last=0, device="cpu", sampling_steps=2,
    )  # fmt: skip


def test_both_transformers_are_trained_on_one_another_and_resume_exactly(options, tmp_path):
    train(options)
    train(replace(options, save_dir=str(tmp_path / "other"), num_steps=2))
    train(replace(options, save_dir=str(tmp_path / "other")))
    whole, resumed = (from_pretrained(tmp_path / name / "step_000000004").networks.state_dict() for name in ("run", "other"))
    assert all(torch.equal(value, resumed[name]) for name, value in whole.items())
    residual = train(replace(options, save_dir=str(tmp_path / "both"), tokenizer="", base=str(tmp_path / "run"))).model
    assert residual.config.num_quantizers == 3 and residual.config.guidance_scale == 5 and residual.config.cond_mask_prob == 0.2
    assert len(from_pretrained(tmp_path / "both").generate([Request(WAVE, 21, 0)])[0]) == 21


def test_what_a_transformer_stands_on_must_fit_it(options, tmp_path):
    with pytest.raises(ValueError, match="give a --tokenizer"):
        replace(options, tokenizer="")
    single = saved(tmp_path / "single", tiny_transformer())
    with pytest.raises(ValueError, match="needs a tokenizer of several codebooks"):
        train(replace(options, tokenizer="", base=str(single)))
    with pytest.raises(FileError, match="is not the checkpoint of a model of kind vqvae"):
        train(replace(options, tokenizer=str(saved(tmp_path / "residual", tiny_residual()))))
    coarse = str(saved(tmp_path / "coarse", tiny_tokenizer(num_levels=8)))
    with pytest.raises(ValueError, match=r"a token of this tokenizer is 256 frames, the shortest motion of .* has [0-9]+"):
        train(replace(options, tokenizer=coarse))
    with pytest.raises(ValueError, match="a token of this tokenizer is 256 frames"):
        train_lamp(LaMPOptions(save_dir=str(tmp_path / "lamp"), dataset=options.dataset, tokenizer=coarse, text_tower="minilm",
                               num_layers=1))  # fmt: skip


@pytest.mark.parametrize("quickly", [{}, {"mask_queries": True, "match_every": 3, "told_words": "captions"}])
def test_lamp_is_trained_and_finds_what_it_embeds(options, quickly, tmp_path):
    lamp = LaMPOptions(
        save_dir=str(tmp_path / "lamp"), dataset=options.dataset, tokenizer=options.tokenizer, text_tower="minilm", num_layers=1,
        memory_dim=8, query_ff_size=8, embedding=8, frozen_text=True, mask_motion=True, dropout=0.0, num_steps=2, batch_size=4,
        warmup_steps=0, log_interval=1, save_interval=2, eval_interval=2, use_ema=True, schedule="constant",
        device="cpu", **quickly,
    )  # fmt: skip
    model = train_lamp(lamp).model
    rng = np.random.default_rng(0)
    motions = [rng.standard_normal((length, 263)).astype(np.float32) for length in (40, 17)]
    vectors = model.encode_motion(motions)
    assert torch.allclose(vectors[1], model.encode_motion(motions[1:])[0], atol=1e-5)
    assert torch.allclose(*model.encode_text(["A person waves!", "a person waves"]), atol=1e-6)
    space = open_space(tmp_path / "lamp")
    assert np.allclose(space.encode_motion(motions), vectors, atol=1e-5) and space.encode_text(["a person waves"]).shape == (1, 8)
    assert model.features == CONTINUOUS and model.space().similarity == "cosine"
    with pytest.raises(ValueError, match="have more tokens than that"):
        train_lamp(replace(lamp, save_dir=str(tmp_path / "short"), num_queries=3))

    # The language model that comes with the installation is in no file, and a run goes on exactly without it
    state = read_training_state(complete(tmp_path / "lamp")[-1])
    assert model.installed() and state["networks"].keys() == state["average"].keys()
    assert state["networks"].keys() == model.networks.state_dict().keys() - model.installed()
    on = train_lamp(replace(lamp, num_steps=3)).model.networks.state_dict()
    whole = train_lamp(replace(lamp, num_steps=3, save_dir=str(tmp_path / "whole"))).model.networks.state_dict()
    assert all(torch.equal(value, whole[name]) for name, value in on.items())


def test_queries_beyond_a_motions_end_are_nothing_to_the_objectives():
    model = tiny_lamp(mask_queries=True)
    text = model.encode_words([WAVE, WALK])
    motion = torch.randn(2, 40, 263) * (torch.arange(40) < torch.tensor([40, 17])[:, None])[..., None]

    def terms(frames, rows):
        mask = torch.arange(frames) < torch.tensor([40, 17])[rows, None]
        padded = torch.nn.functional.pad(motion, (0, 0, 0, 100))[rows, :frames]
        others = torch.tensor([1, 0])[: len(rows)] % len(rows)
        return model.objectives(text.ids[rows], text.mask[rows], *model.latents(padded, mask), lambda scores: (others, others))

    narrow, wide = terms(40, [0, 1]), terms(140, [0, 1])
    assert all(torch.allclose(value, wide[name], atol=1e-5) for name, value in narrow.items())
    narrow, wide = terms(17, [1]), terms(140, [1])
    assert all(torch.allclose(value, wide[name], atol=1e-5) for name, value in narrow.items())
    with pytest.raises(ValueError, match="give both"):
        tiny_lamp(mask_queries=True, mask_motion=False)


def test_words_are_told_from_those_of_the_captions_and_of_the_text_itself():
    model = tiny_lamp()
    hidden, ids = torch.randn(1, 3, 384), torch.tensor([[5, 900, 7]])
    mask = torch.ones_like(ids, dtype=torch.bool)
    among = torch.tensor([5, 7, 2000])
    logits = model.qformer.word_logits(hidden)[..., [5, 7, 900, 2000]]
    expected = torch.nn.functional.cross_entropy(logits[0], torch.tensor([0, 2, 1]), label_smoothing=0.1)
    found = captioning(model.qformer.word_logits, hidden, ids, mask, 0.1, among)
    assert torch.allclose(found, expected, atol=1e-5)


def test_a_frozen_condition_is_made_once_a_text_and_is_what_lamp_tells_of_it():
    lamp = tiny_lamp()
    model = tiny_transformer({"lamp": lamp}, lamp_condition="frozen")
    text = model.encode_text([WAVE])
    kept = model.train().conditions([WAVE])
    assert torch.allclose(kept[0], lamp.telling(text.ids, text.mask)[0].mean(0), atol=1e-6)
    assert not kept.requires_grad and "text_reader" not in model.networks
    model.text_encoder = None
    assert torch.equal(model.copied().train().conditions([WAVE]), kept)


def test_an_exported_model_samples_as_asked_and_names_its_data_as_others_know_them(tmp_path):
    folder = saved(tmp_path / "model", tiny_transformer({"lamp": tiny_lamp()}))
    export(ExportOptions(checkpoint=folder, output=tmp_path / "out", dataset="bandai_cmu", temperature=0.5, sampling_steps=3))
    loaded = from_pretrained(tmp_path / "out")
    assert (loaded.config.temperature, loaded.config.sampling_steps, loaded.config.top_k) == (0.5, 3, 0.5)
    assert {loaded.config.dataset, loaded.parts["lamp"].config.dataset, loaded.tokenizer.config.dataset} == {"bandai_cmu"}
    with pytest.raises(ValueError, match=r"--sampling_steps: the model of .* has no such setting"):
        export(ExportOptions(checkpoint=saved(tmp_path / "lamp", tiny_lamp()), output=tmp_path / "other", sampling_steps=3))


def test_models_that_stand_on_one_share_it_beside_them(tmp_path):
    model = tiny_transformer({"lamp": tiny_lamp()})
    shelf, whole = tmp_path / "shelf", saved(tmp_path / "run", model)
    for name, folder in (("tokenizer", whole / "parts/lamp/parts/tokenizer"), ("lamp", whole / "parts/lamp"), ("any", whole)):
        if name == "lamp":
            with pytest.raises(FileError, match="lamp does not hold the lamp that this model stands on"):
                export(ExportOptions(checkpoint=whole, output=shelf / "any", parts_beside=True))
        export(ExportOptions(checkpoint=folder, output=shelf / name, parts_beside=True))
        assert not (shelf / name / "parts").exists()
    loaded, request = from_pretrained(shelf / "any"), [Request(WALK, 20, 4)]
    assert torch.equal(loaded.generate(request)[0], from_pretrained(shelf / "any").generate(request)[0])
    assert len(loaded.encode_text([WALK]).ids) == 1 and not (shelf / "any/parts").exists()
    moved = shelf.rename(tmp_path / "moved")
    assert from_pretrained(moved / "any").parts.keys() == {"lamp"}
    saved(shelf / "tokenizer", tiny_tokenizer(seed=1))
    (moved / "lamp").rename(shelf / "lamp")
    with pytest.raises(FileError, match=r"any/parts/lamp is absent, and so is .*moved/lamp"):
        from_pretrained(moved / "any")
    with pytest.raises(FileError, match=r"shelf/tokenizer/model\.safetensors is not what the model was trained on"):
        from_pretrained(shelf / "lamp")
    with pytest.raises(ValueError, match="--parts_beside is about the folder of --output"):
        ExportOptions(checkpoint=whole, onnx=tmp_path / "onnx", parts_beside=True)


def test_a_moving_average_reads_texts_by_the_weights_it_has_now():
    model = tiny_transformer({"lamp": tiny_lamp()})
    average, text = model.copied(), [WAVE]
    before = average.conditions(text)
    with torch.no_grad():
        average.networks["text_reader"].weight.data.mul_(-3)
    assert not torch.allclose(average.conditions(text), before, atol=1e-4)
    assert torch.allclose(model.conditions(text), before, atol=1e-6)
