"""PGR2M: tokens of poses, soft codebooks, decoding one pose after another, keywords, training, published files."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from data_loaders.features import HUMANML3D, Features
from data_loaders.pose_code_table import pose_code_table
from data_loaders.pose_codes import STRIDE, token_codes
from diffusion.pose_decoding import decode_poses, hardened
from evaluations.eval_vq import EvalVQOptions
from evaluations.eval_vq import run as eval_vq
from evaluations.protocol import REAL
from evaluations.tokens import TOLD
from model import pgr2m_config, pgr2m_transformer_config
from model.capabilities import Decoding, Generates, Request, Tokenises
from model.checkpoints import from_pretrained
from model.lsremgm_sampling import LengthError
from model.model import Draws
from model.official.pgr2m import pg_tokenizer_name
from model.official.vqvae import KIT
from model.pgr2m import NUM_CODES, NUM_GROUPS, codes_of_ids
from model.pgr2m_config import TOKEN_FRAMES
from model.pgr2m_networks import BITS, END
from model.pgr2m_transformers import advancing, group_sizes, kept_keywords
from model.registry import able, published_at
from model.soft_quantizer import SoftCodebooks
from model.text_towers import load_text_encoder
from protos.options import parse
from protos.reading import FileError
from sample.generation import motions_for
from tests.golden.pgr2m_checkpoints import as_published, base_as_published, refine_as_published
from tests.test_official_tokens import write, write_statistics
from tests.test_vqvae import motions
from tests.tiny_pgr2m import CODES, tiny_base, tiny_pg_tokenizer, tiny_refiner
from tests.tiny_tokens import saved
from train.train_base_trans import BaseTransOptions
from train.train_base_trans import run as train_base
from train.train_pg_tokenizer import PGTokenizerOptions
from train.train_pg_tokenizer import run as train_tokenizer
from train.train_refine_trans import RefineTransOptions
from train.train_refine_trans import run as train_refine

WAVE, WALK = "a person waves", "a person walks forward"
SIZES = group_sizes()


def test_sizes_are_those_of_the_vocabulary():
    assert (pose_code_table().width, len(pose_code_table().groups), STRIDE) == (NUM_CODES, NUM_GROUPS, TOKEN_FRAMES)
    assert sum(SIZES) == END


def test_a_token_tells_the_pose_of_its_first_frame_whatever_it_is_encoded_with():
    made, given = tiny_pg_tokenizer(), motions(40, 17, 4)
    together = made.encode(given)
    assert [tuple(ids.shape) for ids in together] == [(10, 72), (4, 72), (1, 72)]
    for ids, each in zip(together, given, strict=True):
        assert torch.equal(ids, made.encode([each])[0])
        joints = made.features.joints(torch.from_numpy(each))
        assert torch.equal(codes_of_ids(ids[:, :NUM_GROUPS]).bool(), token_codes(joints))
    back, poses = made.decode(together), made.decode([ids[:, :NUM_GROUPS] for ids in together])
    assert [len(each) for each in back] == [40, 16, 4]
    assert torch.allclose(back[1], made.decode(together[1:2])[0], atol=1e-5)
    assert not torch.allclose(back[0], poses[0], atol=1e-3)
    assert isinstance(made, Tokenises) and "pg_tokenizer" in able(Tokenises)


def test_a_soft_codebook_stands_for_values_and_begins_once_at_latents_of_its_first_batch():
    books = SoftCodebooks(2, 4, 3).train()
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    coded = books(x)
    assert torch.equal(books.layers[0].codes, x[0, :4]) and books.started.all()
    books(x + 1)
    assert torch.equal(books.layers[0].codes, x[0, :4])
    assert torch.allclose(books.vectors(coded.ids), coded.vectors, atol=1e-5)
    assert torch.allclose(books.vectors(coded.ids[..., :1]), books.layers[0].values()[coded.ids[..., 0]])
    keep = torch.tensor([[True] * 5, [True] * 2 + [False] * 3])
    spoilt = torch.where(keep[..., None], x, 1e3)
    assert torch.allclose(books.eval()(x, keep).commitment, books(spoilt, keep).commitment)


def batch_of(dataset):
    from data_loaders.batches import WindowBatches
    from data_loaders.corpus import Corpus

    return WindowBatches(Corpus.open(dataset), "train", 16, 3)(0, 0, 1)


def test_some_steps_of_training_tell_poses_alone_and_some_poses_are_turned(small_dataset):
    batch = batch_of(small_dataset)

    def draws() -> Draws:
        return Draws([torch.Generator().manual_seed(k) for k in range(3)], torch.Generator().manual_seed(9))

    for share, told in ((1.0, False), (0.0, True)):
        terms = tiny_pg_tokenizer(residual_drop=share).train().loss(batch, draws()).terms
        assert (terms["commitment"] > 0) == told and set(terms) == {"reconstruction", "positions", "commitment", "entropy"}
    assert set(tiny_pg_tokenizer(0).train().loss(batch, draws()).terms) == {"reconstruction", "positions"}
    x = batch.motion
    own = tiny_pg_tokenizer(turn=0.0, jitter=False)
    assert torch.equal(own.pose_codes(x, draws()), own.pose_codes(x))
    turned = tiny_pg_tokenizer(turn=1.0, jitter=False).pose_codes(x, draws())
    assert not torch.equal(turned[..., 252:270], own.pose_codes(x)[..., 252:270])  # left and right in the world
    assert torch.equal(turned[..., :72], own.pose_codes(x)[..., :72])  # how limbs bend


# ----------------------------------------------------------------------------------------------------------------------- decoding


def scripted(lengths: list[int]):
    """Logits by which sample b says `lengths[b]` tokens before it ends, and what was asked for."""
    asked = []

    def logits(step: int, rows: list[int]) -> torch.Tensor:
        found = torch.zeros(len(rows), BITS) - 1
        found[:, END] = torch.tensor([1.0 if lengths[row] <= step else -1.0 for row in rows])
        return found

    def advance(bits: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        last = asked[-1] if asked else list(range(len(lengths)))
        asked.append([last[row] for row in rows.tolist()])
        return logits(len(asked), asked[-1])

    return logits(0, list(range(len(lengths)))), advance, asked


def test_each_motion_ends_by_itself_and_is_no_longer_asked_about():
    first, advance, asked = scripted([2, 0, 4])
    none, most = torch.zeros(3, dtype=torch.long), torch.full((3,), 6)
    assert [len(each) for each in decode_poses(first, advance, SIZES, none, most)] == [2, 1, 4]  # never without a token
    assert asked == [[0, 2], [0, 2], [2], [2]]


def test_a_length_that_is_asked_for_is_kept_by_forbidding_and_forcing_the_end():
    first, advance, _ = scripted([2, 0, 9])
    wanted = torch.tensor([5, 3, 4])
    made = decode_poses(first, advance, SIZES, wanted, wanted)
    assert [len(each) for each in made] == [5, 3, 4]
    assert all((each[:, END:] == 0).all() and (each[:, :NUM_CODES].sum(1) == NUM_GROUPS).all() for each in made)


def test_one_code_of_each_group_is_drawn_as_often_as_it_is_likely():
    logits = torch.zeros(4000, BITS)
    logits[:, 1] = 2.0  # of the first group, of 18
    gumbel = -(-torch.rand(4000, NUM_GROUPS, max(SIZES), generator=torch.Generator().manual_seed(0)).log()).log()
    bits = hardened(logits, SIZES, gumbel=gumbel)
    assert (bits[:, :NUM_CODES].split(SIZES, dim=1)[0].sum(1) == 1).all() and (bits.sum(1) == NUM_GROUPS).all()
    assert float(bits[:, 1].mean()) == pytest.approx(float(logits[0, :18].softmax(0)[1]), abs=0.03)
    assert float(bits[:, -3].mean()) < 0.6 < float(bits[:, NUM_CODES - 2 : NUM_CODES].sum(1).mean())


def test_what_is_kept_of_earlier_tokens_changes_nothing():
    network = tiny_base().transformer
    condition, generator = torch.randn(3, 12, 384, generator=torch.Generator().manual_seed(1)), torch.Generator().manual_seed(2)
    bits = (torch.rand(3, 9, BITS, generator=generator) < 0.2).float()
    whole, (logits, past) = network(bits, condition), network.first(condition)
    found, advance = [logits], advancing(network, past)
    for step in range(9):
        found.append(advance(bits[:, step], torch.arange(3)))
    assert torch.allclose(torch.stack(found, 1), whole, atol=1e-4)
    alone = network(bits[1:2], condition[1:2])
    assert torch.allclose(alone[0], whole[1], atol=1e-4)


@pytest.mark.parametrize("share", [True, False])
@torch.no_grad()
def test_codebooks_in_turn_are_said_as_each_by_itself(share):
    network, generator = tiny_refiner(share_weights=share).transformer, torch.Generator().manual_seed(2)
    condition, bits = torch.randn(2, 12, 384, generator=generator), (torch.rand(2, 5, BITS, generator=generator) < 0.2).float()
    ids, mask = torch.randint(8, (2, 5, 2), generator=generator), torch.arange(5) < torch.tensor([[5], [3]])
    in_turn = network.in_turn(bits, condition, mask)
    for number in range(2):
        alone = network(bits, ids[..., :number], torch.full((2,), number), condition, mask)[..., :8]
        assert torch.allclose(in_turn(number, ids[..., :number])[mask], alone[mask], atol=1e-4)


@pytest.mark.parametrize("make", [tiny_base, tiny_refiner])
def test_a_motion_depends_on_its_own_request_alone(make, caplog):
    model = make()
    requests = [Request(WAVE, 40, 1), Request(WALK, 17, 2), Request(WAVE, 23, 3)]
    together = model.generate(requests)
    assert isinstance(model, Generates) and [tuple(each.shape) for each in together] == [(40, 263), (17, 263), (23, 263)]
    for made, request in zip(together, requests, strict=True):
        assert torch.allclose(made, model.generate([request])[0], atol=1e-4)
    assert not torch.allclose(together[0], model.generate([replace(requests[0], seed=9)])[0], atol=1e-3)
    likeliest = [model.generate([replace(requests[0], seed=seed)], Decoding(temperature=0.0))[0] for seed in (1, 9)]
    assert torch.allclose(*likeliest)
    assert len(motions_for(model, requests)[1].joints[0]) in (17, 18)
    unguided = [model.generate(requests, each)[0] for each in (Decoding(), Decoding(2.0, sampling_steps=3))]
    assert torch.equal(*unguided) and "guidance_scale is ignored" in caplog.text
    with pytest.raises(ValueError, match="sampler: this model says one pose after another"):
        model.generate(requests, Decoding(sampler="ddim"))
    with pytest.raises(LengthError, match="1 to 196"):
        model.generate([replace(requests[0], frames=197)])


def test_a_prompt_without_keywords_fills_their_slots_with_itself_or_its_words():
    text = load_text_encoder("minilm").encode([WAVE])
    sentence, words = (tiny_base(keywords=how, num_keywords=8).condition(text)[0] for how in ("sentence", "words"))
    assert sentence.shape == words.shape == (9, 384) and (sentence == text.pooled).all()
    count = text.tokens.shape[1]
    assert torch.equal(words[1 : 1 + count], text.tokens[0]) and (words[1 + count :] == 0).all()
    assert tiny_base(num_keywords=0).condition(text).shape == (1, 1, 384)
    hit = torch.tensor([[False, False, False], [True, False, True], [True, True, True]])
    assert kept_keywords(hit, "published").tolist() == [[False, True, True], [False, False, True], [True, False, True]]
    assert torch.equal(kept_keywords(hit, "each"), ~hit) and kept_keywords(hit, "none").all()


# ----------------------------------------------------------------------------------------------------------------------- training


@pytest.fixture
def options(small_dataset, tmp_path):
    return PGTokenizerOptions(
        save_dir=str(tmp_path / "poses"), dataset=str(small_dataset), num_steps=4, batch_size=4, window_size=16, num_quantizers=2,
        quantizer_drop=0.5, lr=1e-3, warmup_steps=0, schedule="constant", log_interval=1, save_interval=2, eval_interval=2,
        keep_last=0, device="cpu", **CODES,
    )  # fmt: skip


def equal(one, other) -> bool:
    whole, resumed = (from_pretrained(folder / "step_000000004").networks.state_dict() for folder in (one, other))
    return all(torch.equal(value, resumed[name]) for name, value in whole.items())


def test_the_three_are_trained_on_one_another_and_resume_exactly(options, tmp_path):
    model = train_tokenizer(options).model
    assert model.network.codebooks.started.all()
    again = replace(options, save_dir=str(tmp_path / "again"))
    train_tokenizer(replace(again, num_steps=2))
    train_tokenizer(again)
    assert equal(tmp_path / "poses", tmp_path / "again")

    course = {
        "dataset": options.dataset, "num_steps": 4, "batch_size": 4, "latent_dim": 16, "ff_size": 16, "num_layers": 2,
        "num_heads": 2, "log_interval": 1, "save_interval": 2, "eval_interval": 2, "keep_last": 0, "device": "cpu",
    }  # fmt: skip
    base = BaseTransOptions(save_dir=str(tmp_path / "base"), tokenizer=str(tmp_path / "poses"), **course)
    train_base(base)
    again = replace(base, save_dir=str(tmp_path / "base_again"))
    train_base(replace(again, num_steps=2))
    train_base(again)
    assert equal(tmp_path / "base", tmp_path / "base_again")

    refine = RefineTransOptions(save_dir=str(tmp_path / "both"), base=str(tmp_path / "base"), **course)
    made = train_refine(refine).model
    assert (made.config.num_quantizers, made.config.num_codes) == (2, 8)
    assert len(from_pretrained(tmp_path / "both").generate([Request(WAVE, 21, 0)])[0]) == 21
    frozen = train_refine(replace(refine, save_dir=str(tmp_path / "frozen"), pose_embedding="frozen")).model
    assert torch.equal(frozen.transformer.embedding.weight, frozen.base.transformer.embedding.weight)
    with pytest.raises(ValueError, match="the base has latent_dim 16, not 32"):
        train_refine(replace(refine, save_dir=str(tmp_path / "wider"), pose_embedding="base", latent_dim=32))
    with pytest.raises(ValueError, match="has pose codes alone"):
        alone = saved(tmp_path / "como", tiny_base(tiny_pg_tokenizer(0)))
        train_refine(replace(refine, save_dir=str(tmp_path / "none"), base=str(alone)))


def test_keywords_are_read_from_files_of_motions(small_dataset, tmp_path):
    from data_loaders.corpus import Corpus
    from train.token_recipe import captioned, with_keywords

    data, base = captioned(Corpus.open(small_dataset), "train"), tiny_base(keyword_drop="none").train()
    batch = data.batch([type("Drawn", (), {"index": i, "number": 0}) for i in range(2)])
    batch.text_features["text"] = base.encode_text(batch.texts)
    draws = Draws([torch.Generator().manual_seed(k) for k in range(2)], torch.Generator())
    alone = base.condition_to_train(batch, draws)
    for k, name in enumerate(batch.names):
        np.save(tmp_path / f"{name}.npy", np.repeat(np.arange(33, dtype=np.float32), 384).reshape(33, 384) + 100 * k)
    told = base.condition_to_train(with_keywords(str(tmp_path), base.config)(batch), draws)
    assert torch.equal(alone[:, 0], told[:, 0])
    slots = ((told[:, 1:, 0] - torch.tensor([[0.0], [100.0]])) // 3).long()
    assert torch.equal(slots, torch.arange(11).expand(2, -1))
    with pytest.raises(FileError, match="is absent"):
        with_keywords(str(tmp_path / "none"), base.config)


def test_what_comes_back_is_judged_beside_what_went_in(options, tmp_path, pool_dataset, tiny_evaluator):
    folder = saved(tmp_path / "tokenizer", tiny_pg_tokenizer())
    found = eval_vq(EvalVQOptions(model_path=str(folder), dataset=str(pool_dataset), replications=1, device="cpu",
                                  evaluator=tiny_evaluator, output_dir=tmp_path / "report"))  # fmt: skip
    assert next(iter(found.rows)) == REAL and found.rows[TOLD]["fid"].mean > found.rows[REAL]["fid"].mean


def parsed(module, kind, presets, ignored, line: str):
    return parse(kind, line.split(), aliases=module.ALIASES, presets=presets, ignored=ignored)


def test_published_command_lines_are_understood():
    tokenizer = parsed(
        pgr2m_config, PGTokenizerOptions, pgr2m_config.PRESETS, pgr2m_config.IGNORED,
        "--dataname kit --save_dir x --batch-size 256 --lr 1e-4 --total-iter 300000 --lr-scheduler 200000 --nb-code 392 "
        "--down-t 2 --depth 3 --dilation-growth-rate 3 --vq-act relu --rvq-num-quantizers 6 --rvq-nb-code 512 "
        "--rvq-quantizer-type soft --rvq-quantize-dropout-prob 0.2 --rvq-vq-loss-beta 0.25 "
        "--params-soft-ent-loss 0.01 --detach-p-latent --pdrop-res 0.1 --unuse-ema",
    )  # fmt: skip
    assert (tokenizer.dataset, tokenizer.milestones, tokenizer.num_codes, tokenizer.hold_pose) == ("kit", (200_000,), 512, True)
    base = parsed(
        pgr2m_transformer_config, BaseTransOptions, pgr2m_transformer_config.BASE_PRESETS, pgr2m_transformer_config.IGNORED,
        "--dataname t2m --save_dir x --embed-dim-gpt 1024 --n-head-gpt 16 --ff-rate 4 --drop-out-rate 0.1 --pkeep 0.5 "
        "--dec-checkpoint-folder y --block-size 62",
    )  # fmt: skip
    assert (base.tokenizer, base.keep_prob, base.num_layers) == ("y", 0.5, 18)
    refine = parsed(
        pgr2m_transformer_config, RefineTransOptions, pgr2m_transformer_config.REFINE_PRESETS,
        pgr2m_transformer_config.IGNORED_OF_REFINE,
        "--dataname t2m --save_dir x --t2m-checkpoint-folder y --share-weight --pkeep 1.0 --load-pretrained-pose-code-emb",
    )  # fmt: skip
    assert (refine.base, refine.share_weights, refine.pose_embedding) == ("y", True, "base")


def test_kit_has_pose_codes_too():
    made = tiny_pg_tokenizer(features=KIT)
    (ids,) = made.encode([np.random.default_rng(0).standard_normal((24, 251)).astype(np.float32)])
    assert ids.shape == (6, 72) and made.decode([ids])[0].shape == (24, 251)
    with pytest.raises(ValueError, match="of features of kind humanml, not interhuman"):
        tiny_pg_tokenizer(features=Features("humanml", 30.0, "published", "interhuman"))


# ---------------------------------------------------------------------------------------------------------------------- published


@pytest.fixture
def release(tmp_path, monkeypatch):
    """A folder of one for each model, as published; and the refine transformer that lies in it."""
    monkeypatch.setattr("model.official.pgr2m.HEADS", {"pg_base": 2, "pg_refine": 2})
    model = tiny_refiner(tiny_base(tiny_pg_tokenizer(features=HUMANML3D, num_codes=8)))
    tokenizer = {pg_tokenizer_name(name): value for name, value in model.tokenizer.network.named_parameters()}
    write(tmp_path / "tokenizer" / "net_best_fid.pth", "net", tokenizer)
    write_statistics(tmp_path / "tokenizer" / "meta")
    write(tmp_path / "base" / "net_best_fid.pth", "trans", base_as_published(model.base.transformer))
    write(tmp_path / "refine" / "net_best_fid.pth", "r_trans", refine_as_published(model.transformer, 62))
    return tmp_path, model


def test_published_files_in_one_folder_are_told_by_their_parameters_and_find_one_another(release):
    folder, model = release
    encoder = load_text_encoder("minilm")
    for path, system in ((folder, "pg_refine"), (folder / "base", "pg_base"), (folder / "tokenizer", "pg_tokenizer")):
        assert published_at(path)[0].name == system
    request = [Request(WAVE, 24, 1)]
    loaded = from_pretrained(folder, text_encoder=encoder)
    assert torch.allclose(loaded.generate(request)[0], model.generate(request)[0], atol=1e-5)
    assert loaded.base.config.num_keywords == 11 and loaded.tokenizer.network.codebooks.started.all()
    (folder / "tokenizer" / "arguments.yaml").write_text('{"vq_act": "gelu", "dilation_growth_rate": 3, "lr": 0.1}')
    (folder / "base" / "arguments.yaml").write_text('{"n_head_gpt": 4, "use_keywords": false}')
    told = from_pretrained(folder, text_encoder=encoder)
    assert (told.tokenizer.config.activation, told.base.config.num_heads, told.config.num_heads) == ("gelu", 4, 2)
    assert told.base.config.num_keywords == told.config.num_keywords == 0
    (folder / "tokenizer" / "arguments.yaml").write_text('{"vq_act": "tanh"}')
    with pytest.raises(FileError, match="activation 'tanh': expected one of relu"):
        from_pretrained(folder)
    (folder / "tokenizer" / "arguments.yaml").unlink()
    (folder / "base" / "arguments.yaml").unlink()
    base = from_pretrained(folder / "base", text_encoder=encoder)
    assert torch.allclose(base.generate(request)[0], model.base.generate(request)[0], atol=1e-5)


def test_como_is_a_decoder_of_poses_and_a_base(release):
    folder, _ = release
    como = tiny_pg_tokenizer(0, features=HUMANML3D)
    state = as_published(como.network, pg_tokenizer_name)
    state["codebook.weight"] = state.pop("pc_encoder.codebook.weight")
    write(folder / "tokenizer" / "net_best_fid.pth", "net", state)
    loaded = from_pretrained(folder / "base", text_encoder=load_text_encoder("minilm"))
    assert loaded.tokenizer.config.num_quantizers == 0
    ids = loaded.tokenizer.encode(motions(24))
    assert ids[0].shape == (6, NUM_GROUPS) and torch.equal(loaded.tokenizer.decode(ids)[0], como.decode(ids)[0])


@pytest.mark.parametrize("damage, said", [
    (lambda state: state.pop("trans_base.blocks.0.mlp.2.bias"), "1 missing"),
    (lambda state: state.update({"proc_in.token_embed_weight": torch.zeros(2, 10, 16)}), "expected the same tensor"),
    (lambda state: state.update({"embed_proj_shared_weight": torch.zeros(3, 10, 16)}), "made for 3 x 8 codes"),
    (lambda state: state["proc_in.cond_emb.bias"].fill_(float("nan")), "NaN|differs"),
])  # fmt: skip
def test_a_damaged_published_file_is_named_with_what_is_wrong(release, damage, said):
    file = release[0] / "refine" / "net_best_fid.pth"
    state = torch.load(file, weights_only=True)["r_trans"]
    damage(state)
    write(file, "r_trans", state)
    with pytest.raises(FileError, match=said):
        from_pretrained(release[0])
