"""Captions: known answers of their metrics, words that are named, what a model that describes motion and a file of them get."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pytest
import torch
from torch import nn

from data_loaders.corpus import Corpus
from data_loaders.features import HUMANML3D, Features
from data_loaders.skeleton import load_skeleton
from data_loaders.text import sides_in
from evaluations import captions, eval_m2t
from evaluations import language_metrics as metrics
from evaluations.bert_score import bert_scorer, published_f1, token_f1
from evaluations.caption_words import Shown, read_words, words_of
from evaluations.evaluation_set import real_set
from model.capabilities import CAPTIONING, Describes
from model.checkpoints import save_pretrained
from model.model import Model
from model.registry import SYSTEMS, System, able
from model.text_encoders import TextEncoder, Tower
from protos.flags import WEIGHT, Bounded, decided
from protos.reading import FileError
from tests.shared import shared
from tests.synthetic import POOL_STATISTICS, pool_motion, write_run
from tests.tiny_pgr2m import tiny_base

TEXTS = ["a person walks forward slowly", "someone raises the left hand", "a man kicks with his right leg twice"]
SKELETON = load_skeleton("humanml")


# ------------------------------------------------------------------------------------------------------------------------ metrics


def test_a_caption_equal_to_one_of_its_references_has_the_highest_scores():
    references = [["nothing of that kind at all", text] for text in TEXTS]
    assert metrics.corpus_bleu(TEXTS, references).score == pytest.approx(1)
    assert metrics.rouge_l(TEXTS, references) == pytest.approx(1)
    assert metrics.cider(TEXTS, [[text] for text in TEXTS]) == pytest.approx(10)
    assert bert_scorer("minilm").f1(TEXTS, references) == pytest.approx(1, abs=1e-6)


def test_captions_of_others_score_lower():
    own, others = [[text] for text in TEXTS], TEXTS[1:] + TEXTS[:1]
    for score in (lambda t: metrics.corpus_bleu(t, own, 1).score, lambda t: metrics.rouge_l(t, own).mean(),
                  lambda t: metrics.cider(t, own).mean(), lambda t: bert_scorer("minilm").f1(t, own).mean()):  # fmt: skip
        assert score(others) < score(TEXTS) - 0.2


def test_bleu_counts_a_word_as_often_as_a_reference_has_it_and_punishes_short_captions():
    found = metrics.corpus_bleu(["the the the the the the the"], [["the cat is on the mat", "there is a cat on the mat"]], 1)
    assert found.precisions[0] == pytest.approx(2 / 7)  # Papineni et al. 2002, §2.1
    assert found.brevity_penalty == 1 and found.reference_length == 6
    short = metrics.corpus_bleu(["a person walks"], [["a person walks on and on"]], 1)
    assert short.score == pytest.approx(np.exp(1 - 6 / 3)) and short.length_ratio == 0.5
    assert metrics.corpus_bleu(["a person walks"], [["a person walks on"]], 4).score == 0  # no four words, no smoothing
    with pytest.raises(ValueError, match="BLEU@5"):
        metrics.corpus_bleu(TEXTS, [[text] for text in TEXTS], 5)


def test_case_and_dots_count_for_cider_alone():
    dotted = ["A person walks, forward slowly.", *TEXTS[1:]]
    own = [[text] for text in TEXTS]
    assert metrics.corpus_bleu(dotted, own).score == pytest.approx(1) and metrics.rouge_l(dotted, own) == pytest.approx(1)
    assert metrics.cider(dotted, own)[0] < 5 and metrics.cider(dotted, own, metrics.bleu_words)[0] == pytest.approx(10)


def test_the_longest_common_subsequence_is_that_of_the_usual_table():
    draw = np.random.default_rng(0)
    for _ in range(60):
        a, b = ([str(x) for x in draw.integers(4, size=draw.integers(0, 70))] for _ in range(2))
        table = np.zeros((len(a) + 1, len(b) + 1), int)
        for i, one in enumerate(a):
            for j, other in enumerate(b):
                table[i + 1, j + 1] = table[i, j] + 1 if one == other else max(table[i, j + 1], table[i + 1, j])
        assert metrics.longest_common(a, b) == table[-1, -1]


def test_empty_captions_score_nothing_and_bad_input_is_refused():
    empty, own = ["", "", ""], [[text] for text in TEXTS]
    assert metrics.corpus_bleu(empty, own).score == 0
    for each in (metrics.rouge_l(empty, own), metrics.cider(empty, own), bert_scorer("minilm").f1(empty, own)):
        assert (each == 0).all()
    for texts, references in ((TEXTS, own[:2]), ([], []), (TEXTS, TEXTS), (TEXTS, [[], *own[1:]])):
        with pytest.raises(ValueError, match="references"):
            metrics.corpus_bleu(texts, references)


def test_of_a_single_caption_bertscore_weighs_all_words_alike():
    """Else every inverse frequency would be 0."""
    score = bert_scorer("minilm").f1
    assert score(["a person waves"], [["a person waves"]]) == pytest.approx(1, abs=1e-6)
    assert 0.1 < score(["a person waves"], [["a man greets someone"]])[0] < 0.95


def test_bertscore_of_one_more_pair_beside_padding_is_that_of_the_pair_alone():
    draw = np.random.default_rng(0)  # states that are all alike to some degree: at padding likeness is 0, as published
    one = [metrics.Tokens(draw.uniform(size=(1, n, 8)), np.ones((1, n), bool), draw.uniform(size=(1, n))) for n in (4, 3)]
    padded = [metrics.Tokens(*(np.pad(x, [(0, 0), (0, 5)] + [(0, 0)] * (x.ndim - 2)) for x in each)) for each in one]
    alone, beside = metrics.greedy_matching(*one), metrics.greedy_matching(*padded)
    np.testing.assert_allclose(alone, beside, atol=1e-12)
    swapped = metrics.greedy_matching(*one[::-1])
    assert swapped.precision == pytest.approx(alone.recall) and swapped.f1 == pytest.approx(alone.f1)


def test_roberta_is_scored_by_the_published_package_whose_numbers_are_ours(tmp_path):
    bert_score = pytest.importorskip("bert_score")
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizerFast

    words = ["<s>", "<pad>", "</s>", "<unk>", *sorted({chr(c) for c in range(33, 127)} | {"Ġ"})]
    (tmp_path / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (tmp_path / "merges.txt").write_text("#version: 0.2\n")
    files = [str(tmp_path / name) for name in ("vocab.json", "merges.txt")]
    tokenizer = RobertaTokenizerFast(*files, model_max_length=100)
    tokenizer.save_pretrained(tmp_path)
    torch.manual_seed(0)
    sizes = dict(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, max_position_embeddings=110)
    network = RobertaModel(RobertaConfig(vocab_size=len(words), **sizes)).eval()
    network.save_pretrained(tmp_path)
    others, own = TEXTS[1:] + TEXTS[:1], [[text, "somebody is there"] for text in TEXTS]
    published = published_f1(tmp_path, others, own, layer=2)
    assert published_f1(tmp_path, TEXTS, own, layer=2) == pytest.approx(1, abs=1e-3) and published.max() < 0.99
    table = Path(bert_score.__file__).parent / "rescale_baseline" / "en" / "roberta-large.tsv"
    baseline = float(table.read_text().splitlines()[1 + 2].split(",")[3])  # F1 of layer 2

    def run(ids):
        tokens = network(ids).last_hidden_state
        return tokens.mean(1), tokens

    encoder = TextEncoder("tiny", 16, lambda: Tower(lambda text: (tokenizer(text)["input_ids"], 0), run))
    assert (token_f1(encoder, others, own) - baseline) / (1 - baseline) == pytest.approx(published, abs=1e-4)


# -------------------------------------------------------------------------------------------------------------------- named words


def test_sides_are_those_that_a_text_names():
    assert sides_in("a person raises the left hand") == {"left"}
    assert sides_in("walks and turns right, then leftwards") == {"left", "right"}
    assert sides_in("stands right there and turns at right angles right away") == set()
    words = words_of("bandai_namco")
    told = {"waves both hands": "both", "the right arm": "right", "left, then right": "both", "walks": "", "two arms": "both"}
    assert {text: words.side(text) for text in told} == told
    assert words.side_shown("bye", ["waves the right hand", "says goodbye"]) == "right"
    assert words.side_shown("bye", ["waves the right hand", "lifts the left hand"]) == ""
    assert words.side_shown("wave-left-hand", ["waves the right hand"]) == "left"


def test_chance_is_what_the_same_captions_score_when_dealt_out_blindly():
    shown = Shown(words_of("bandai_namco"), {"a": ("walk", ""), "b": ("bow", ""), "c": ("wave-left-hand", "left"), "d": ("", "")})
    right = shown.named("abcd", ["a person walks", "a man bows", "waves the right hand", "jumps"])
    assert right.content == (1.0, pytest.approx(1 / 3), 3) and right.side == (0.0, 0.0, 1)
    wrong = shown.named("abcd", ["a man bows"] * 4)
    assert wrong.content == (pytest.approx(1 / 3), pytest.approx(1 / 3), 3)
    assert Shown(words_of("bandai_namco"), {}).named("ab", ["x", "y"]) == (None, None)


@pytest.mark.parametrize("dataset", ["bandai_namco", "bandai_cmu"])
def test_what_people_say_of_recordings_names_their_content_and_side(dataset):
    words = words_of(dataset)
    clips = json.loads(shared("data", "bandai_namco", "captions.json").read_text())["clips"]
    told, sides = [], []
    for clip in list(clips.values())[::5]:
        content = clip["content"]
        told += [words.contents[content].in_text(text) for text in clip["captions"]]
        if "hand" in content or "turn" in content:
            sides += [words.side(text) == words.side_shown(content, []) for text in clip["captions"]]
    assert np.mean(told) > 0.99 and np.mean(sides) > 0.98
    of_walks = [text for clip in list(clips.values())[::5] if clip["content"] == "walk" for text in clip["captions"]]
    assert not any(words.contents["wave-left-hand"].in_text(text) for text in of_walks)


def test_words_that_cannot_be_read_are_named(tmp_path):
    for content, message in (("[contents]\nwalk = { says = '(' }", "regular expression"),
                             ("[contents]\nwalk = 3", "expected object"), ("base = 'no'\n[contents]", "base 'no'")):  # fmt: skip
        (tmp_path / "caption_words.toml").write_text(content)
        with pytest.raises(FileError, match=message):
            read_words(tmp_path / "caption_words.toml")


# ------------------------------------------------------------------------------------------------- a model that describes motion


@dataclass(frozen=True, kw_only=True)
class SpeakerConfig(Bounded):
    """Network of the speaker"""

    metres: Annotated[float, WEIGHT] = 0.5
    """How far one has to get to walk."""
    features: Features = decided(HUMANML3D)
    dataset: str = decided("")
    max_frames = 196


class Speaker(Model):
    """Says that a person walks where the pelvis gets far enough, else that one raises the hand that is higher at its highest."""

    def __init__(self, config, statistics=None, parts=None):
        super().__init__(config, statistics, {"far": nn.Linear(1, 1)})
        with torch.no_grad():
            self.networks["far"].weight.fill_(1.0)
            self.networks["far"].bias.fill_(-config.metres)

    @torch.no_grad()
    def describe(self, motions, decoding=CAPTIONING):
        assert len(motions) <= decoding.batch_size
        return [f"{decoding.prompt} {self.of(self.features.joints(torch.as_tensor(np.array(each))))}" for each in motions]

    def of(self, joints):
        gone = (joints[-1, 0, [0, 2]] - joints[0, 0, [0, 2]]).norm()
        if self.networks["far"](gone[None]) > 0:
            return "a person walks"
        left, right = (joints[:, SKELETON.index(f"{side}_wrist"), 1].max() for side in ("left", "right"))
        return f"a person raises the {'left' if left > right else 'right'} hand"


@pytest.fixture(scope="module")
def speaker(pool_dataset, tmp_path_factory) -> Path:
    SYSTEMS["speaker"] = System("speaker", f"{__name__}:SpeakerConfig", f"{__name__}:Speaker")
    folder = tmp_path_factory.mktemp("speaker") / "speaker"
    save_pretrained(folder, Speaker(SpeakerConfig(features=POOL_STATISTICS.features), POOL_STATISTICS))
    yield folder
    del SYSTEMS["speaker"]


def evaluated(*flags: str, folder: Path) -> dict:
    eval_m2t.main([*flags, "--replications", "3", "--device", "cpu", "--bert_score", "minilm", "--output_dir", str(folder)])
    return json.loads((folder / "report.json").read_text())


def test_a_describing_model_is_told_from_what_is_said_of_other_motions(speaker, pool_dataset, tiny_evaluator, tmp_path, capsys):
    assert "speaker" in able(Describes)
    found = evaluated("--model_path", str(speaker), "--dataset", str(pool_dataset), "--evaluator", str(tiny_evaluator),
                      folder=tmp_path / "out")  # fmt: skip
    rows = found["rows"]
    assert list(rows) == ["model speaker", captions.PEOPLE, captions.SHUFFLED, captions.FREQUENT]
    for name in captions.LANGUAGE:
        own, others = (rows[row]["language"]["raw"][name] for row in (captions.PEOPLE, captions.SHUFFLED))
        assert own[0] - own[1] > others[0] + others[1]
    own, others = (rows[row]["language"]["tokens"]["BERTScore"] for row in ("model speaker", captions.SHUFFLED))
    assert own[0] - own[1] > others[0] + others[1]  # raw captions have numbers that no model could know
    walk = rows["model speaker"]["named"]["content"]
    assert walk["rate"] == 1 and walk["clips"] == 20 and walk["chance"] == pytest.approx(1)  # all known clips are walks
    assert {"R@1", "R@3", "MM-Dist"} <= set(rows["model speaker"]["evaluator"])
    assert found["bertscore"]["encoder"] == "MiniLM" and len(found["bertscore"]["sha256"]) == 64
    assert set(found["made_from"]) == {"dataset", "motions", "model", "captions", "evaluator"}
    printed = capsys.readouterr().out
    assert "| raw" in printed and "| tokens" in printed and f"MiniLM {found['bertscore']['sha256'][:8]}" in printed
    lines = (tmp_path / "out" / "captions.csv").read_text().splitlines()
    assert len(lines) == 1 + 4 * 40 and "model speaker,000,a person walks" in lines


def test_captions_of_a_run_are_compared_with_its_prompts(speaker, pool_dataset, tmp_path):
    made = [pool_motion(i)[0] for i in range(4)]
    texts = ["a person walks", "a person raises the left hand", "a person walks", "a person raises the right hand"]
    run = write_run(tmp_path / "run", made, texts)
    flags = ["--model_path", str(speaker), "--dataset", str(pool_dataset), "--motions", str(run)]
    rows = evaluated(*flags, folder=tmp_path / "right")["rows"]
    assert rows["model speaker"]["language"]["raw"]["BERTScore"][0] == pytest.approx(100, abs=1e-3)
    assert rows["model speaker"]["language"]["raw"]["BLEU@1"][0] == pytest.approx(100) and rows[captions.PEOPLE]["motions"] == 0
    prompted = evaluated(*flags, "--prompt", "now", "--batch_size", "1", folder=tmp_path / "prompted")
    assert prompted["decoding"]["prompt"] == "now" and prompted["rows"]["model speaker"]["language"]["raw"]["BLEU@1"][0] < 90
    wrong = write_run(tmp_path / "wrong", made, texts[1:] + texts[:1])
    rows = evaluated(*flags[:-1], str(wrong), folder=tmp_path / "else")["rows"]
    assert rows["model speaker"]["language"]["raw"]["BERTScore"][0] < 90


def test_the_score_of_made_motion_is_that_of_what_a_model_sees_in_it(speaker, pool_dataset):
    from model.checkpoints import from_pretrained

    corpus, model = Corpus(pool_dataset), from_pretrained(speaker)
    motions = [np.array(corpus[i]) for i in (0, 1)]
    same = captions.motion_bertscore(model, motions, ["a person walks", "a person raises the left hand"])
    other = captions.motion_bertscore(model, motions, ["a person raises the left hand", "a person walks"])
    assert same == pytest.approx(1, abs=1e-6) and (other < 0.9).all()


def test_the_board_says_how_well_a_captioner_finds_prompts_in_motions(speaker, pool_dataset, tiny_evaluator, tmp_path):
    from evaluations.board import main as board

    model = tmp_path / "base"
    save_pretrained(model, tiny_base())
    flags = ["--dataset", str(pool_dataset), "--evaluator", str(tiny_evaluator), "--num_motions", "32", "--replications", "1",
             "--probe_seeds", "0", "--device", "cpu", "--captioner", str(speaker), "--described_motions", "8"]  # fmt: skip
    board(["--model_paths", str(model), "real", *flags, "--output_dir", str(tmp_path / "board")])
    table, facts = ((tmp_path / "board" / f"board.{kind}").read_text() for kind in ("md", "json"))
    rows = json.loads(facts)["rows"]
    assert "LaMP-BertScore ↑" in table and "what speaker sees in 8 motions" in table
    assert len(json.loads(facts)["made_from"]["captioner"]) == 16
    assert rows["real motion"]["lamp_bertscore"][0] > rows["base"]["lamp_bertscore"][0] > 0
    with pytest.raises(SystemExit):
        board(["--model_paths", *flags, "--reports", str(tmp_path)])


def test_given_captions_are_judged_by_the_names_of_motions(pool_dataset, tmp_path):
    data = real_set(Corpus(pool_dataset))
    given = {entry.name: entry.captions[0].text for entry in data.entries}
    (tmp_path / "given.json").write_text(json.dumps(given))
    (tmp_path / "given.txt").write_text("".join(f"{name}\t{text}\n" for name, text in list(given.items())[:5]) + "\n")
    whole = captions.given(tmp_path / "given.json", data)
    assert whole.texts == list(given.values()) and len(whole.references[0]) == 2
    part = captions.given(tmp_path / "given.txt", data)
    assert part.texts == whole.texts[:5] and part.chosen.tolist() == [0, 1, 2, 3, 4]
    rows = evaluated("--captions", str(tmp_path / "given.json"), "--dataset", str(pool_dataset), "--num_motions", "40",
                     folder=tmp_path / "out")["rows"]  # fmt: skip
    assert rows["given.json"]["language"]["raw"]["BLEU@4"] == [pytest.approx(100), pytest.approx(0, abs=1e-9)]
    assert rows["given.json"]["evaluator"] == {}  # of a dataset without an evaluator


@pytest.mark.parametrize("file, content, message", [
    ("a.json", '{"000": " "}', "the caption of '000' is empty"),
    ("a.json", '{"no such": "walks"}', "'no such' is none of the 40 motions"),
    ("a.json", '{"000": NaN}', "JSON"), ("a.json", '{"000": 3}', "expected"), ("a.json", "{}", "no caption"),
    ("a.txt", "000 walks\n", "line 1: no tab"), ("a.txt", "000\ta\n\n000\tb\n", "line 3: a second caption of '000'"),
    ("a.txt", "000\t\n", "is empty"),
])  # fmt: skip
def test_captions_that_cannot_be_used_are_named(file, content, message, pool_dataset, tmp_path):
    (tmp_path / file).write_text(content)
    with pytest.raises(FileError, match=message):
        captions.given(tmp_path / file, real_set(Corpus(pool_dataset)))


def test_a_model_that_says_too_little_is_refused():
    class Silent:
        def describe(self, motions, decoding):
            return ["a person"]

    with pytest.raises(ValueError, match="1 captions for 3 motions"):
        captions.described(Silent(), [np.zeros((8, 263))] * 3)


def test_people_are_compared_with_what_others_say_and_never_with_themselves(pool_dataset):
    data = real_set(Corpus(pool_dataset))
    own, dealt = captions.people(data, seed=3)
    for entry, text, others in zip(data.entries, own.texts, own.references):
        assert sorted([text, *(each.text for each in others)]) == sorted(each.text for each in entry.captions)
    assert sorted(dealt.texts) == sorted(own.texts) and not any(a == b for a, b in zip(dealt.texts, own.texts))
    assert len(captions.caption_set(data, 7, 0)) == 7
