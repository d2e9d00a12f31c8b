"""What is known about a dataset by its name: data_loaders/datasets holds a file for each, and the code none of it.

A dataset of recordings whose file names say what they are is such a file: see bandai_namco.toml.
"""

import re
import string
from collections.abc import Iterable, Mapping
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from data_loaders.features import Features
from data_loaders.sources import Kind
from protos.files import shown
from protos.reading import FileError, read_toml

DATASET_ROOT = Path("dataset")
DESCRIPTIONS = Path(__file__).with_name("datasets")


class Neighbours(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Recordings with the same labels and neighbouring numbers, `count` of them, go to the same split."""

    labels: list[str]
    number: str
    count: Annotated[int, msgspec.Meta(ge=1)]


class Recordings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """How raw recordings are read, and what is known about one beside what captions.json says."""

    files: Kind
    mapping: str | None = None  # of bvh: shipped name or file
    mappings: dict[str, str] = {}  # of files whose names begin so, or whose label `mapping_label` has this value
    mapping_label: str = ""
    source_fps: Annotated[float, msgspec.Meta(ge=0.1, le=10_000)] | None = None  # of files that do not tell it, or are wrong
    first_frame: Annotated[int, msgspec.Meta(ge=0)] = 0  # where captions.json does not tell it
    caption_keys: tuple[str, ...] = ("captions", "caption")  # of captions.json, all that are there
    persons: tuple[str, ...] = ()  # keys of an entry that name a file of one person each, who has captions under the same key
    exclusions: bool = False  # whether what excluded.txt names is left out
    labels: dict[str, str] = {}  # our label -> the key of captions.json whose text it is
    numbers: dict[str, str] = {}  # the same of whole numbers
    neighbours: Neighbours | None = None
    file_name: str = ""  # pattern with a group for each label that the name of a file, without suffix, tells
    words: dict[str, dict[str, str]] = {}  # label -> what captions call its values; "*": any other, {} being the value
    captions: list[str] = []  # forms with {label}, for recordings that nobody described
    # pattern -> content: the first that is found in a recording's label `description`; or a table of them beside this file
    contents: dict[str, str] | str = {}
    features: Literal["humanml", "interhuman", "interhuman_person"] = "humanml"  # what clips become, where nobody says it

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """The form of file names."""
        return re.compile(self.file_name)

    def check(self, name: str) -> None:
        """FileError where the pattern is none, or a caption speaks of what it does not tell."""
        try:
            told = set(self.pattern.groupindex)
            asked = {field for form in self.captions for _, field, _, _ in string.Formatter().parse(form) if field is not None}
            for pattern in self.contents:
                re.compile(pattern)
        except (re.error, ValueError, RecursionError, OverflowError) as error:
            raise FileError(f"{name}: file_name, captions and contents: {error}") from None
        if unknown := sorted((asked | set(self.words)) - told):
            raise FileError(f"{name}: captions or words speak of {unknown[0]!r}, of which file_name tells nothing")

    def content_of(self, description: str) -> str:
        """What a recording shows, in the words of `contents`; '' where its description has none of the patterns."""
        return next((content for pattern, content in self.contents.items() if re.search(pattern, description, re.I)), "")

    def told_by(self, stem: str) -> tuple[dict[str, str | int], tuple[str, ...]]:
        """(labels, captions) that the name of a file tells; nothing where it has another form or an unknown word."""
        found = self.pattern.fullmatch(stem) if self.file_name else None
        if found is None:
            return {}, ()
        said = {label: value for label, value in found.groupdict().items() if value is not None}
        spoken = {}
        for label, value in said.items():
            words = self.words.get(label, {"*": "{}"})
            if value not in words and "*" not in words:
                return {}, ()
            spoken[label] = words[value] if value in words else words["*"].replace("{}", value)
        labels = {label: int(value) if label in self.numbers else value for label, value in said.items()}
        return labels, tuple(form.format_map(spoken).strip() for form in self.captions)

    def mapping_of(self, stem: str, labels: Mapping[str, object]) -> str | None:
        """The mapping of a recording, by the name of its file or by its labels."""
        if self.mapping_label:
            return self.mappings.get(str(labels.get(self.mapping_label)), self.mapping)
        return next((mapping for start, mapping in self.mappings.items() if stem.startswith(start)), self.mapping)

    def block(self, labels: Mapping[str, object]) -> str:
        """What recordings of the same split have in common; '' where each is on its own."""
        if self.neighbours is None:
            return ""
        number = labels.get(self.neighbours.number) or 0
        return " ".join([*(str(labels.get(label)) for label in self.neighbours.labels), str(number // self.neighbours.count)])


class Official(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The dataset as published: its skeleton, frames per second, the form of its clips' names, how many each split lists, and
    those without usable features, whose absence is no damage. length_limits: frames of the clips that count, the first
    included, the last not.
    """

    skeleton: str
    fps: float
    length_limits: tuple[int, int]
    clip: str
    clips: dict[str, int]
    gaps: list[str] = []


class OfficialPairs(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A dataset of two people as published, in InterHuman's layout; statistics: its name in published_statistics.json."""

    fps: float
    statistics: str


class Sources(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whole files that a dataset's clips are cut from, and what is particular to some of them."""

    splits: list[str]
    dropped_seconds: dict[str, float]
    whole: str
    unreflected: str


class Description(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A dataset: what it is called (in lower case), and its folder below dataset/."""

    names: list[str] = []
    folder: str = ""
    recordings: Recordings | None = None
    official: Official | None = None
    pairs: OfficialPairs | None = None
    sources: Sources | None = None


def read_description(path: Path) -> Description:
    """A file of data_loaders/datasets, or one like it. FileError names what is wrong."""
    dataset = read_toml(path, Description)
    recordings = dataset.recordings
    if recordings is not None:
        if isinstance(recordings.contents, str):
            if not re.fullmatch(r"\w+", recordings.contents):
                raise FileError(f"{path}: contents {shown(recordings.contents)}: expected a table, or the name of a shipped one")
            table = read_toml(Path(__file__).with_name(f"{recordings.contents}.toml"), dict[str, str])
            recordings = msgspec.structs.replace(recordings, contents=table)
        recordings.check(str(path))
    return msgspec.structs.replace(dataset, recordings=recordings)


@lru_cache(1)
def known_datasets() -> dict[str, Description]:
    """The datasets that are described here, by the names of their files."""
    return {path.stem: read_description(path) for path in sorted(DESCRIPTIONS.glob("*.toml"))}


def official_of(skeleton: str) -> Official | None:
    """The published dataset of a skeleton (by name), of which there is at most one."""
    known = (each.official for each in known_datasets().values())
    return next((official for official in known if official and official.skeleton == skeleton), None)


def published_name(features: Features, names: Iterable[str]) -> str | None:
    """humanml or kit where these are its clips (their ids, perhaps mirrored) as published; None for data of another kind,
    which may well have the same skeleton and heading."""
    official = official_of(features.skeleton) if (features.heading, features.kind) == ("published", "humanml") else None
    if official is None or features.fps != official.fps:
        return None
    return official.skeleton if all(re.fullmatch(official.clip, name) for name in names) else None


def published_limits(features: Features) -> tuple[int, int] | None:
    """Frames of the clips that count where features are as published, the first included, the last not; None for others."""
    official = official_of(features.skeleton) if (features.heading, features.kind) == ("published", "humanml") else None
    return official and official.length_limits


def humanml3d_sources() -> Sources:
    """The files that HumanML3D is cut from."""
    return known_datasets()["humanml3d"].sources


def dataset_named(name: str) -> Description | None:
    """The dataset of a name, in whatever case (humanml, t2m, kit, ...)."""
    return next((each for each in known_datasets().values() if name.lower() in each.names), None)


def resolve_dataset(name_or_folder: str | Path) -> Path:
    """Folder of a dataset given by name (humanml, kit, ...) or by path.

    Raises FileNotFoundError naming the prepare command where it is not there.
    """
    folder = Path(name_or_folder)
    if folder.is_dir():
        return folder
    known = dataset_named(str(name_or_folder))
    folder = DATASET_ROOT / (known.folder if known else name_or_folder)
    if not folder.is_dir():
        names = ", ".join(name for each in known_datasets().values() for name in each.names)
        raise FileNotFoundError(
            f"dataset '{name_or_folder}' not found at {folder}: prepare it with "
            f"python -m data_loaders.prepare --help, or give its folder (known names: {names})"
        )
    return folder
