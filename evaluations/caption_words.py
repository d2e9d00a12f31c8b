"""Does a caption name what a clip shows, and the right side? Words of a dataset, `datasets/NAME/caption_words.toml`, no model.

What a clip shows is told by its label, its side by the label too ("raise-up-left-hand") or else by what all captions of people
that name one agree on. A share by chance is what the same captions would score if they were dealt out to the same clips blindly:
its expectation, not a draw.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

from data_loaders.corpus import Corpus
from data_loaders.text import sides_in
from evaluations.probes import DATASETS, contents_of, dataset_like, plain_words
from protos.reading import FileError, read_toml

WORDS_FILE = "caption_words.toml"
SIDES = ("left", "right", "both")


@dataclass(frozen=True)
class ContentWords:
    """Regular expressions of whole words (`plain_words`): one that is found in a caption of a content, and one that is not."""

    says: str
    never: str = ""

    def __post_init__(self) -> None:
        for pattern in (self.says, self.never):
            try:
                re.compile(pattern)
            except (re.error, RecursionError, OverflowError) as error:
                raise ValueError(f"'{pattern}' is no regular expression: {error}") from None

    @cached_property
    def _patterns(self) -> list[re.Pattern[str] | None]:
        return [re.compile(rf"\b(?:{pattern})\b") if pattern else None for pattern in (self.says, self.never)]

    def in_text(self, text: str) -> bool:
        """Whether a caption tells of the content."""
        (says, never), plain = self._patterns, plain_words(text)
        return bool(says.search(plain)) and not (never and never.search(plain))


@dataclass(frozen=True)
class CaptionWords:
    """Words by which captions tell the contents of a dataset, and `both` sides; those of a `base` count as well."""

    contents: dict[str, ContentWords]
    both: str = ""
    base: str | None = None

    def side(self, text: str) -> str:
        """Left, right or both, as a caption names it; '' for none."""
        named = sides_in(text)
        if len(named) == 1:
            return next(iter(named))
        return "both" if named or (self.both and re.search(rf"\b(?:{self.both})\b", plain_words(text))) else ""

    def side_shown(self, content: str, captions: Iterable[str]) -> str:
        """The side of a clip, by its label or else by its captions; '' where there is none, or they disagree."""
        labelled = [side for side in SIDES if side in content.split("-")]
        named = labelled or {self.side(text) for text in captions} - {""}
        return next(iter(named)) if len(named) == 1 else ""


def read_words(path: Path) -> CaptionWords:
    """The words of a file, those of its base included. FileError names what is wrong."""
    file = read_toml(path, CaptionWords)
    if not file.base:
        return file
    if not re.fullmatch(r"\w+", file.base) or file.base not in with_words():
        raise FileError(f"{path}: base '{file.base}', expected one of {', '.join(with_words())}")
    base = words_of(file.base)
    return CaptionWords(base.contents | file.contents, file.both or base.both)


def with_words() -> list[str]:
    """Names of the datasets that have words."""
    return sorted(path.parent.name for path in DATASETS.glob(f"*/{WORDS_FILE}"))


@lru_cache
def words_of(dataset: str) -> CaptionWords:
    """The words of one of these. FileError."""
    return read_words(DATASETS / dataset / WORDS_FILE)


@dataclass(frozen=True)
class Shown:
    """What clips show, by name: (content, side), '' where that is not known; `words` tell it in captions."""

    words: CaptionWords
    clips: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def named(self, clips: Sequence[str], captions: Sequence[str]) -> "Named":
        """How often captions name what their clips show."""
        contents, sides = zip(*(self.clips.get(name, ("", "")) for name in clips))
        told = {name: [self.words.contents[name].in_text(text) for text in captions] for name in set(contents) - {""}}
        spoken = [self.words.side(text) for text in captions]
        of_sides = {name: [each == name for each in spoken] for name in set(sides) - {""}}
        return Named(_share(contents, told), _share(sides, of_sides))


class Share(NamedTuple):
    """A share of `clips`, and what it is by chance."""

    rate: float
    chance: float
    clips: int


class Named(NamedTuple):
    """Of captions that name the right content and the right side, of clips where these are known."""

    content: Share | None
    side: Share | None


def _share(shown: Sequence[str], told: Mapping[str, Sequence[bool]]) -> Share | None:
    """told: by what may be shown, which of the captions tell it."""
    known = [i for i, name in enumerate(shown) if name]
    if not known:
        return None
    often = Counter(shown[i] for i in known)
    blind = sum(count * sum(told[name][i] for i in known) / len(known) for name, count in often.items())
    return Share(sum(told[shown[i]][i] for i in known) / len(known), blind / len(known), len(known))


def shown_in(corpus: Corpus) -> Shown | None:
    """What the clips of a corpus show as far as words of a dataset can tell it; None where none can."""
    name = dataset_like(corpus, {each: words_of(each).contents for each in with_words()})
    if name is None:
        return None
    words, clips = words_of(name), {}
    for clip, content in contents_of(corpus).items():
        captions = [caption.text for caption in corpus.captions(clip)]
        clips[clip] = (content if content in words.contents else "", words.side_shown(content, captions))
    return Shown(words, clips)
