"""python -m sample.retrieve SUBCOMMAND: one space of texts and motions, to encode, compare, search and localise in.

Any TMR checkpoint, published run of TMR or evaluator will do as --model_path. SUBCOMMAND --help tells its options.

encode_motion, encode_text      a motion file or a text as a vector
text_motion_sim                 how well a text and a motion belong together
encode_dataset                  a gallery of a dataset or of a folder of motion files; run again, it adds what is new
search                          a gallery by text, by motion, or for texts
localize                        when something happens in a long motion

TMR's own commands and what stands for them here: see docs/search.md.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from data_loaders.sources import Reading
from protos.flags import PROCESSES, Range
from protos.options import command, run_command
from sample.generation import TMR
from sample.sliding import Seconds, Sliding

if TYPE_CHECKING:
    from model.embedding import TextMotionSpace

log = logging.getLogger(__name__)
Count = Annotated[int, Range(1, 100_000)]
BatchSize = Annotated[int, Range(1, 65_536)]
OUTPUTS = Path("outputs")
# What TMR's own commands call these -> ours.
ALIASES = {"run_dir": "model_path", "evaluator": "model_path", "npy": "motion", "data": "dataset", "num_results": "k",
           "no_mirror": "fold_mirrored"}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class OfModel:
    """What embeds texts and motions."""

    model_path: Path = TMR
    """TMR (our folder or a published run) or an evaluator, ours or published (default: the weights that come with the code)."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1."""

    def open_space(self) -> "TextMotionSpace":
        from model.embedding import open_space
        from protos.processes import pick_device

        return open_space(self.model_path, pick_device(self.device))


@dataclass(frozen=True, kw_only=True)
class Stretch(Reading):
    """Which seconds of a motion file count."""

    start: Annotated[float, Range(0, 1e6)] | None = None
    """Seconds where the part to read begins (default: the beginning)."""
    end: Annotated[float, Range(0, 1e6)] | None = None
    """Seconds where it ends (default: the end)."""


@dataclass(frozen=True, kw_only=True)
class EncodeMotion(OfModel, Stretch):
    """A motion file as a vector in a .npy file."""

    motion: Path
    """.npy features (T, 263) or joints (T, J, 3) in metres, Y up; .npz AMASS or joints; .bvh; a sampled motions.npz#ROW."""
    output: Path | None = None
    """File to write, not replaced if it is there (default: outputs/encoded/<model>/<motion>-<hash of its path>.npy)."""


@dataclass(frozen=True, kw_only=True)
class EncodeText(OfModel):
    """A text as a vector in a .npy file."""

    text: str
    """What the person does, in English."""
    output: Path | None = None
    """File to write, not replaced if it is there (default: outputs/encoded/<model>/<text>.npy)."""


@dataclass(frozen=True, kw_only=True)
class TextMotionSim(OfModel, Stretch):
    """How well a text and a motion belong together: 0 to 1, 0.5 for strangers. No probability."""

    text: str
    """What the person does, in English."""
    motion: Path
    """.npy features (T, 263) or joints (T, J, 3) in metres, Y up; .npz AMASS or joints; .bvh; a sampled motions.npz#ROW."""


@dataclass(frozen=True, kw_only=True)
class EncodeDataset(OfModel, Reading):
    """A gallery to search, of a prepared dataset or of a folder of motion files. Run again, it adds what is new or has changed
    and drops what is gone."""

    dataset: str | None = None
    """humanml, kit, bandai_namco, a folder made by data_loaders.prepare, or one with TMR's annotations.json."""
    split: str = "all"
    """Split of the dataset."""
    motions: Path | None = None
    """Or a folder of .npy, .npz and .bvh files, captions in NAME.txt beside them if there are any; or one such file."""
    gallery: Path | None = None
    """Folder of the gallery (default: outputs/gallery_<model>_<dataset, or folder with a hash of its path>)."""
    longest_seconds: Seconds | None = None
    """Longer files are cut into equal parts of at most so long (default: the longest motion the model was trained on)."""
    texts: bool = True
    """Also encode the captions, to find texts by motions (--no_texts: motions only)."""
    batch_size: BatchSize | None = None
    """Motions encoded at once (default: what is fast on the device)."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1; of several processes each takes a GPU of its own, or its part of the CPU."""
    processes: Annotated[int, PROCESSES] = 1
    """Processes on this machine that share the work."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.dataset is None) == (self.motions is None):
            raise ValueError("give --dataset or --motions, one of them")


@dataclass(frozen=True, kw_only=True)
class Search(Stretch):
    """Find motions (or captions) of a gallery by a text, by a motion file, or by one of its own motions."""

    gallery: Path
    """Folder made by encode_dataset."""
    text: str | None = None
    """What the person does, in English."""
    motion: Path | None = None
    """Or a motion file: more like this."""
    like: str | None = None
    """Or the name or path of a motion in the gallery: more like this."""
    to: Literal["motion", "text"] = "motion"
    """What to find."""
    k: Count = 10
    """How many."""
    fold_mirrored: bool = True
    """Of a clip and its mirror image (M000123, M/..., *_mirrored) show only the better."""
    exact: bool = False
    """Search in float32 whatever the size (default: by usearch in float16 above 200,000 motions)."""
    model_path: Path | None = None
    """The model that made the gallery (default: where it was then)."""
    json: Path | None = None
    """Also write the hits to this JSON file."""
    csv: Path | None = None
    """Also write the hits to this CSV file."""
    video: bool = False
    """Write an mp4 of each motion found."""
    html: bool = False
    """Write a page that plays them in 3D in any browser."""
    output_dir: Path | None = None
    """Folder for videos and page (default: outputs/search_<query>)."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if sum(given is not None for given in (self.text, self.motion, self.like)) != 1:
            raise ValueError("give one of --text, --motion and --like")
        if self.motion is None and (self.start is not None or self.end is not None):
            raise ValueError("--start and --end choose a part of --motion")
        if self.to == "text" and (self.video or self.html):
            raise ValueError("--video and --html show motions: not with --to text")


@dataclass(frozen=True, kw_only=True)
class Localize(OfModel, Sliding, Reading):
    """When in a long motion does this happen? Moments with scores, and a curve of the score over time."""

    motion: Path
    """.npy features (T, 263) or joints (T, J, 3) in metres, Y up; .npz AMASS or joints; .bvh; a sampled motions.npz#ROW."""
    text: str | None = None
    """What to look for, in English."""
    input_text: Path | None = None
    """Or a file of texts, one a line; the motion is encoded once for all of them."""
    k: Count = 3
    """Moments per text."""
    batch_size: BatchSize | None = None
    """Windows encoded at once (default: what is fast on the device)."""
    output_dir: Path | None = None
    """Folder for moments.json, moments.csv and scores.png (default: outputs/localize_<motion>)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.text is None) == (self.input_text is None):
            raise ValueError("give --text or --input_text, one of them")


def encode_motion(options: EncodeMotion) -> None:
    """Writes the vector (C,) float32, not of unit length, of a motion."""
    from protos.outputs import require_new
    from sample.findings import write_vector
    from sample.gallery_sources import motion_vector

    require_new(options.output)
    part = "" if options.start is options.end is None else f" {options.start} to {options.end}"
    vector = motion_vector(options.motion, options.open_space(), options, options.start, options.end)
    write_vector(options.output, options.model_path, options.motion.stem, f"{options.motion.resolve()}{part}", vector)


def encode_text(options: EncodeText) -> None:
    """Writes the vector (C,) float32, not of unit length, of a text."""
    from protos.outputs import require_new
    from sample.findings import write_vector
    from sample.generation import clean_prompt

    text = clean_prompt(options.text)
    require_new(options.output)
    write_vector(options.output, options.model_path, text, text, options.open_space().encode_text([text])[0])


def text_motion_sim(options: TextMotionSim) -> None:
    """Prints a line that ends with the score."""
    from sample.gallery_sources import motion_vector
    from sample.generation import clean_prompt
    from sample.search import score, unit_rows

    text, space = clean_prompt(options.text), options.open_space()
    motion = motion_vector(options.motion, space, options, options.start, options.end)
    found = score(unit_rows(space.encode_text([text])[0]) @ unit_rows(motion))
    print(f"The score (0 to 1) of the text with the motion {options.motion.name} is {found:.3}")


def encode_dataset(options: EncodeDataset) -> None:
    """Exits with 1 where a file of a folder could not be read; the others are in the gallery."""
    from model.embedding import open_space
    from protos.processes import Processes
    from sample.gallery import require_place
    from sample.gallery_encode import bring_up_to_date, gallery_folder
    from sample.gallery_sources import DatasetSource, FileSource

    processes = Processes(options.device)
    folder = options.gallery or gallery_folder(options.model_path, options.dataset, options.motions)
    require_place(folder)
    space = open_space(options.model_path, processes.device)
    source = (FileSource(options.motions, space, options, options.longest_seconds) if options.dataset is None
              else DatasetSource(options.dataset, options.split, space))  # fmt: skip
    if bring_up_to_date(folder, source, options.model_path, options.texts, options.batch_size, processes):
        raise SystemExit(1)


def search(options: Search) -> None:
    """Prints the hits, best first, and writes the files that were asked for."""
    from model.embedding import open_space
    from protos.files import file_name
    from protos.outputs import require_new
    from protos.processes import pick_device
    from sample.findings import listed, show, write_hits
    from sample.gallery import Gallery
    from sample.gallery_search import GallerySearch
    from sample.gallery_sources import motion_vector
    from sample.generation import clean_prompt

    text = None if options.text is None else clean_prompt(options.text)
    require_new(options.json, "--json")
    require_new(options.csv, "--csv")
    if options.json is not None and options.json == options.csv:
        raise ValueError(f"--json and --csv: both are {options.json}, expected two files")
    gallery = Gallery.load(options.gallery)
    finder = GallerySearch(gallery, options.exact)
    shows = options.video or options.html
    space = own = None
    if options.like is None or shows:
        model_path = options.model_path or Path(gallery.model)
        space = open_space(model_path, pick_device(options.device))
        gallery.require(space, str(model_path))
    if options.like is not None:
        own = gallery.row(options.like)
        query = gallery.vectors[own]
    elif text is not None:
        query = space.encode_text([text])[0]
    else:
        query = motion_vector(options.motion, space, options, options.start, options.end)
    hits = finder.texts(query, options.k) if options.to == "text" else finder.motions(
        query, options.k, own, options.fold_mirrored)  # fmt: skip
    if hits:
        print(listed(hits))
    else:
        log.warning("nothing found%s", ": no video or page is written" if shows else "")
    words = text or options.like or options.motion.stem
    write_hits(hits, words, options.gallery, options.json, options.csv)
    if shows and hits:
        folder = options.output_dir or OUTPUTS / f"search_{file_name(words)}"
        show(hits, gallery, space, folder, words, options.video, options.html)


def localize(options: Localize) -> None:
    """Prints the moments of each text, and writes moments.json, moments.csv and scores.png."""
    from data_loaders.motion_features import read_features
    from protos.files import file_name, run_folder
    from sample.findings import write_moments
    from sample.generation import clean_prompt
    from sample.localize import embed_windows, moments, score_curve
    from sample.prompt_files import read_texts

    texts = [clean_prompt(options.text)] if options.text is not None else read_texts(options.input_text)
    space = options.open_space()
    features = read_features(options.motion, space.features, options)
    windows = embed_windows(features, space, options, options.batch_size)
    scores = [windows.scores(vector) for vector in space.encode_text(texts)]
    found = [moments(windows, of_text, options.k, options.refine) for of_text in scores]
    fps = space.features.fps
    heading = {"motion": str(options.motion), "seconds": round(len(features) / fps, 3), "windows": len(windows.spans)}
    with run_folder(options.output_dir or OUTPUTS / f"localize_{file_name(options.motion.stem)}") as folder:
        write_moments(folder, heading, texts, found, [score_curve(windows, of_text) for of_text in scores], fps)


STEPS = {EncodeMotion: encode_motion, EncodeText: encode_text, TextMotionSim: text_motion_sim, EncodeDataset: encode_dataset,
         Search: search, Localize: localize}  # fmt: skip


def run(options: EncodeMotion | EncodeText | TextMotionSim | EncodeDataset | Search | Localize) -> None:
    STEPS[type(options)](options)


main = command(
    EncodeMotion | EncodeText | TextMotionSim | EncodeDataset | Search | Localize, run,
    "\n\n".join(__doc__.split("\n\n")[:2]), ALIASES,  # the tables would be reflowed
)  # fmt: skip

if __name__ == "__main__":
    run_command(main)
