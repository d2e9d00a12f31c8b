"""Motion to text: decoding word after word, captions of files, training, the published captioner."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from diffusion.autoregression import decode_beams, decode_greedily
from model.capabilities import Captioning, Describes
from model.caption_words import Pieces
from model.checkpoints import from_pretrained
from model.official.opt import OWN, opt_name
from model.official.vqvae import tokenizer_name
from model.registry import able, published_at
from protos.reading import FileError
from sample.caption import CaptionOptions
from sample.caption import run as caption
from sample.captions import by_name
from tests.synthetic import walk
from tests.test_official_tokens import of_qformer, of_tokenizer, write, write_statistics
from tests.tiny_tokens import SPEAKER, saved, tiny_captioner, tiny_lamp
from train.train_m2t import M2TOptions
from train.train_m2t import run as train

STOP = 3
# What follows each word: of 0 mostly 1, seldom 2; of 1 hardly anything is sure, of 2 the end is
CHAIN = torch.tensor([[0.01, 0.55, 0.43, 0.01], [0.3, 0.25, 0.2, 0.25], [0.01, 0.01, 0.01, 0.97], [0.25] * 4]).log()


def following(ids, rows):
    return CHAIN[ids]


def test_beams_find_a_likelier_sentence_than_the_likeliest_word_each_time():
    first = CHAIN[[0, 2]]
    assert decode_greedily(first, following, STOP, 4) == [[1, 0, 1, 0], []]
    assert decode_beams(first, following, STOP, 4, beams=3) == [[2], []]


def test_as_many_words_as_are_allowed_are_said_and_no_more():
    never = torch.full((5, 5), -9.0).index_fill(1, torch.tensor([1]), 0.0)
    assert decode_greedily(never[:1], lambda ids, rows: never[ids], 3, 6) == [[1] * 6]
    assert decode_beams(never[:1], lambda ids, rows: never[ids], 3, 6, beams=2) == [[1] * 6]


def motions(*lengths: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.standard_normal((length, 263)).astype(np.float32) for length in lengths]


@pytest.mark.parametrize("beams, length", [(1, 49), (3, 49), (1, 20), (3, 20)])
def test_kept_keys_and_values_say_what_reading_everything_again_says(beams, length):
    made = tiny_captioner()
    prefix = torch.randn(2, 49, 384)
    start = [101, 1037]
    shown = None if length == 49 else (torch.arange(49) < length).expand(2, -1)

    def again(row):
        said = []

        def logits(rows_of_ids):
            ids = torch.tensor(rows_of_ids)
            read = prefix[row : row + 1, :length].expand(len(ids), -1, -1)
            hidden, _ = made.language(torch.cat([read, made.embedded(ids)], 1))
            return made.logits(hidden[:, -1])

        def advance(ids, rows):
            nonlocal said
            said = [[*said[row], token] for token, row in zip(ids.tolist(), rows.tolist(), strict=True)]
            return logits(said)

        said = [start]
        if beams == 1:
            return decode_greedily(logits([start]), advance, 102, 5)[0]
        return decode_beams(logits([start]), advance, 102, 5, beams)[0]

    with torch.no_grad():
        assert made.go_on(prefix, start, 102, 5, beams, shown) == [again(0), again(1)]


@pytest.mark.parametrize("mask_queries", [False, True])
def test_a_caption_begins_with_the_prompt_and_depends_on_its_own_motion_alone(mask_queries):
    made = tiny_captioner(mask_queries=mask_queries)
    given = motions(40, 17, 64)
    asked = Captioning(beams=2, max_new_tokens=5, prompt="A person", batch_size=2)
    together = made.describe(given, asked)
    assert isinstance(made, Describes) and "captioner" in able(Describes)
    assert all(text.startswith("a person") for text in together)
    assert together == [made.describe([each], asked)[0] for each in given]
    with pytest.raises(ValueError, match="motion 0 has 3 frames, this model reads 4 to 196"):
        made.describe(motions(3))


def test_only_words_of_the_training_captions_are_said(tmp_path):
    made = tiny_captioner(told_words="captions")
    ids = made.words.whole("a person waves", 32)
    made.language.said[ids] = True
    prefix = torch.randn(1, 49, 384)
    loaded = from_pretrained(saved(tmp_path / "model", made))
    with torch.no_grad():
        said = loaded.go_on(prefix, ids[:1], 102, 6, 2)
        logits = made.logits(prefix)
    assert said == made.go_on(prefix, ids[:1], 102, 6, 2) and set(said[0]) <= set(ids)
    assert torch.allclose(logits[..., ids], (prefix @ made.word_weights.T)[..., ids], atol=1e-4)
    assert int(logits.isfinite()[0, 0].sum()) == len(set(ids))


def test_captions_and_ids_of_words_lead_to_one_another():
    words = Pieces("minilm")
    ids = words.whole("A person walks: slowly!", 32)
    assert ids[0] == 101 and ids[-1] == words.stop_id and words.text(ids) == "a person walks slowly"
    assert len(words.whole("walk " * 50, 8)) == 8 and words.begin("a") == ids[:2]


@pytest.mark.parametrize("own_qformer", [False, True])
def test_of_a_language_model_with_additions_only_these_are_trained(own_qformer):
    made = tiny_captioner(lora_rank=2, words="opt", vocabulary=60, language_dim=16, own_qformer=own_qformer)
    trained = {"language", "projection"} | ({"qformer"} if own_qformer else set())
    names = [name for name, each in made.networks.named_parameters() if each.requires_grad]
    assert {name.split(".")[0] for name in names} == trained
    assert all(".more_" in name for name in names if name.startswith("language."))
    x = torch.randn(1, 5, 16)
    plain, _ = made.language(x)
    for name, parameter in made.language.named_parameters():
        if ".up." in name:
            torch.nn.init.normal_(parameter)
    assert not torch.allclose(made.language(x)[0], plain)


@pytest.mark.parametrize("told_words, mask_queries", [("all", False), ("captions", True)])
def test_training_learns_what_each_motion_is_called(small_dataset, tmp_path, told_words, mask_queries):
    lamp = saved(tmp_path / "lamp", tiny_lamp(mask_queries=mask_queries))
    options = M2TOptions(
        save_dir=str(tmp_path / "run"), dataset=str(small_dataset), lamp=str(lamp), num_steps=30, batch_size=8, lr=3e-3,
        schedule="constant", adam_beta1=0.9, log_interval=10, save_interval=30, eval_interval=30, device="cpu",
        told_words=told_words, **SPEAKER,
    )  # fmt: skip
    train(options)
    losses = [line["loss"] for line in map(json.loads, (tmp_path / "run/log.jsonl").read_text().splitlines()) if "loss" in line]
    assert losses[-1] < 0.7 * losses[0] and from_pretrained(tmp_path / "run/best").config.told_words == told_words
    with pytest.raises(ValueError, match="the words of LaMP have 384 channels"):
        train(replace(options, save_dir=str(tmp_path / "other"), language_dim=64))
    with pytest.raises(FileError, match=r"opt-2\.7b"):
        train(replace(options, save_dir=str(tmp_path / "other"), words="opt"))


def test_files_get_a_sentence_each_person_and_each_stretch(tmp_path, capsys):
    folder = saved(tmp_path / "model", tiny_captioner())
    one, two = tmp_path / "one.npy", tmp_path / "two.npy"
    np.save(one, walk(230, 0.2))
    np.save(two, np.stack([walk(40), walk(40) + [1, 0, 0]]))
    (tmp_path / "none.npy").write_bytes(b"nothing")
    np.save(tmp_path / "short.npy", walk(4))
    options = CaptionOptions(motions=(one, two), model_path=folder, beams=1, max_new_tokens=3, device="cpu",
                             output=tmp_path / "said.json")  # fmt: skip
    said = caption(options)
    assert list(said) == [f"{one} 0.0-9.8 s", f"{one} 9.8-11.4 s", f"{two} person 1", f"{two} person 2"]
    assert json.loads((tmp_path / "said.json").read_text()) == said and f"{two} person 2\t" in capsys.readouterr().out
    options = replace(options, output=tmp_path / "twice.json")
    assert list(caption(replace(options, motions=(two, two)))) == [
        f"{two} person 1", f"{two} person 2", f"{two} person 1 (2)", f"{two} person 2 (2)"
    ]  # fmt: skip
    assert capsys.readouterr().out.count(f"{two} person 1\t") == 2
    assert len(json.loads((tmp_path / "twice.json").read_text())) == 4
    with pytest.raises(ValueError, match=r"1 of 2 motions have no caption: .*none\.npy"):
        caption(replace(options, motions=(tmp_path / "none.npy", two), output=None))
    with pytest.raises(ValueError, match=r"short\.npy: 4 frames at 20 fps, this model reads 5 at least"):
        caption(replace(options, motions=(tmp_path / "short.npy",), output=None))


def test_the_demo_says_of_a_file_what_the_command_says(tmp_path):
    pytest.importorskip("gradio", reason="the demo's page needs gradio: pip install gradio (the extra [demo])")
    from sample.demo_app import build, readers_of
    from sample.demo_captions import Describer, captioners

    folder = saved(tmp_path / "speaks", tiny_captioner())
    saved(tmp_path / "lamp", tiny_lamp())
    found = captioners([tmp_path])
    assert set(found) == {folder.as_posix()}
    describer = Describer(found, "cpu", max_upload=1.0)
    np.save(tmp_path / "long.npy", walk(230, 0.2))
    made = describer.caption(tmp_path / "long.npy", folder.as_posix())
    said = caption(CaptionOptions(motions=(tmp_path / "long.npy",), model_path=folder, device="cpu"))
    assert [words for _, words in made.said] == list(said.values()) and made.lines().startswith("0.0-9.8 s: ")
    assert made.motion.joints.shape == (1, 230, 22, 3)
    np.save(tmp_path / "short.npy", walk(2))
    with pytest.raises(ValueError, match=r"short\.npy|lasts"):
        describer.caption(tmp_path / "short.npy", folder.as_posix())
    with pytest.raises(ValueError, match="not on the list"):
        describer.caption(tmp_path / "long.npy", "lamp")
    describer.read_actor.close()
    page = build(None, None, tmp_path, describer).get_config_file()["components"]
    assert {"Caption", "What it shows"} <= {one["props"].get("label") for one in page}
    assert readers_of(None, None, describer) == [describer.read_actor]


def test_lamps_published_captioner_says_what_it_said(tmp_path, monkeypatch):
    monkeypatch.setattr("model.official.lamp.HEAD_SIZE", 32)
    monkeypatch.setattr("model.official.opt.HEAD_SIZE", 8)
    made = tiny_captioner(words="opt", vocabulary=60, language_dim=16, lora_rank=2, lora_alpha=4.0, language_positions=80,
                 frozen_text=False, own_encoder=True, mask_motion=False)  # fmt: skip
    for name, parameter in made.language.named_parameters():
        if ".up." in name:
            torch.nn.init.normal_(parameter)
    state = {OWN + opt_name(name).replace("q_proj.weight", "q_proj.base_layer.weight"): value
             for name, value in made.language.state_dict().items()}  # fmt: skip
    encoder = made.lamp.networks["motion_encoder"].state_dict()
    state |= of_qformer(made.lamp) | {"motion_projection": made.lamp.heads.motion_projection.data}
    state |= {f"motion_{tokenizer_name(f'encoder.{name}', 2)}": value for name, value in encoder.items()}
    state |= {f"opt_proj.{kind}": value for kind, value in made.networks["projection"].state_dict().items()}
    file = write(tmp_path / "m2t.pth", "trans", state | {"trans_base.unused": torch.zeros(1)})
    write(tmp_path / "vq.tar", "vq_model", of_tokenizer(made.lamp.tokenizer, "vqvae."))
    write_statistics(tmp_path / "meta")
    assert published_at(file)[0].name == "captioner"
    loaded = from_pretrained(file)
    motion = torch.randn(1, 196, 263)
    mask = torch.ones(1, 196, dtype=torch.bool)
    prefix = made.prefix(motion, mask)
    assert torch.allclose(loaded.prefix(motion, mask), prefix, atol=1e-5)
    ids = torch.tensor([[2, 5, 7]])
    given = prefix, ids, torch.ones_like(ids, dtype=torch.bool)
    assert torch.allclose(loaded.hidden_of(*given), made.hidden_of(*given), atol=1e-5)


def test_names_of_files_can_neither_break_a_line_nor_end_a_run(tmp_path, capsys):
    """Bytes that are no UTF-8, ends of lines, tabs."""
    folder = saved(tmp_path / "model", tiny_captioner())
    names = [os.fsencode(tmp_path) + b"/a\xff.npy", os.fsencode(tmp_path / "b\n\tc.npy")]
    for name in names:
        np.save(os.fsdecode(name), walk(40))
    options = CaptionOptions(motions=tuple(Path(os.fsdecode(name)) for name in names), model_path=folder, beams=1,
                             max_new_tokens=3, device="cpu", output=tmp_path / "said.txt")  # fmt: skip
    caption(options)
    lines = (tmp_path / "said.txt").read_text().splitlines()
    assert [line.count("\t") for line in lines] == [1, 1] and "b  c.npy\t" in lines[1]
    assert capsys.readouterr().out.splitlines() == lines and "\udcff" not in lines[0]
    caption(replace(options, output=tmp_path / "said.json"))
    assert len(json.loads((tmp_path / "said.json").read_text())) == 2


def test_a_prompt_is_one_that_can_be_read_and_leaves_room_for_words():
    model, motion = tiny_captioner(language_positions=80), [np.zeros((40, 263), np.float32)]
    odd, plain = (model.describe(motion, Captioning(1, 2, prompt)) for prompt in ("a \udcff person", "a person"))
    assert odd == plain
    with pytest.raises(ValueError, match="--prompt of 31 tokens and --max_new_tokens 2: this model says at most 31 tokens"):
        model.describe(motion, Captioning(1, 2, "walk " * 30))


def test_captions_of_many_files_of_one_name_are_counted():
    said = [("a", "1"), ("a (2)", "2"), *(("a", str(i)) for i in range(3, 20_000))]
    found = by_name(said)
    assert list(found)[:4] == ["a", "a (2)", "a (3)", "a (4)"] and len(found) == len(said)
