"""The options of `sample.retrieve`, a dataclass for each of its subcommands."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from protos.bounds import PROCESSES, Range

TMR = Path(__file__).resolve().parents[1] / "checkpoints" / "tmr"  # the weights that come with the code
Seconds = Annotated[float, Range(0, 1e6, above=True)]  # up to eleven days: no option means more
Count = Annotated[int, Range(1, 100_000)]
BatchSize = Annotated[int, Range(1, 65_536)]
MOST_WINDOWS = 100  # lengths
# What TMR's own commands call these -> ours.
ALIASES = {"run_dir": "model_path", "evaluator": "model_path", "npy": "motion", "data": "dataset", "num_results": "k",
           "no_mirror": "fold_mirrored"}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How motion files are read that do not say it themselves."""

    mapping: str | None = None
    """BVH: TOML/JSON file, or the name of a shipped one, that maps the file's joints to ours (default: the shipped one that
    fits the joints' names)."""
    motion_fps: Annotated[float, Range(0.1, 10_000)] | None = None
    """Frames per second of joints in .npy or .npz files (default: those of the model)."""
    body_model: Path | None = None
    """AMASS: folder of the licensed SMPL+H / SMPL body model files."""


@dataclass(frozen=True, kw_only=True)
class Sliding:
    """The windows that slide over a long motion."""

    window_seconds: tuple[Seconds, ...] = (1.0, 2.0, 4.0, 6.0, 8.0, 10.0)
    """Lengths of the windows."""
    stride_seconds: Seconds = 0.25
    """From one window to the next."""
    refine: bool = True
    """Let each moment grow while the curve stays in the upper half between its median and its maximum."""

    def __post_init__(self) -> None:
        if not 0 < len(self.window_seconds) <= MOST_WINDOWS:
            raise ValueError(f"--window_seconds: {len(self.window_seconds)} lengths of windows, expected 1 to {MOST_WINDOWS}")


@dataclass(frozen=True, kw_only=True)
class Part(Reading):
    """Which seconds of a motion file count."""

    start: Annotated[float, Range(0, 1e6)] | None = None
    """Seconds where the part to read begins (default: the beginning)."""
    end: Annotated[float, Range(0, 1e6)] | None = None
    """Seconds where it ends (default: the end)."""


@dataclass(frozen=True, kw_only=True)
class EncodeMotion(Part):
    """A motion file as a vector in a .npy file."""

    model_path: Path = TMR
    """TMR (our folder or a published run) or an evaluator, ours or published (default: the weights that come with the code)."""
    motion: Path
    """.npy features (T, 263) or joints (T, J, 3) in metres, Y up; .npz AMASS or joints; .bvh; a sampled motions.npz#ROW."""
    output: Path | None = None
    """File to write, not replaced if it is there (default: outputs/encoded/<model>/<motion>-<hash of its path>.npy)."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1."""


@dataclass(frozen=True, kw_only=True)
class EncodeText:
    """A text as a vector in a .npy file."""

    model_path: Path = TMR
    """TMR (our folder or a published run) or an evaluator, ours or published (default: the weights that come with the code)."""
    text: str
    """What the person does, in English."""
    output: Path | None = None
    """File to write, not replaced if it is there (default: outputs/encoded/<model>/<text>.npy)."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1."""


@dataclass(frozen=True, kw_only=True)
class TextMotionSim(Part):
    """How well a text and a motion belong together: 0 to 1, 0.5 for strangers. No probability."""

    model_path: Path = TMR
    """TMR (our folder or a published run) or an evaluator, ours or published (default: the weights that come with the code)."""
    text: str
    """What the person does, in English."""
    motion: Path
    """.npy features (T, 263) or joints (T, J, 3) in metres, Y up; .npz AMASS or joints; .bvh; a sampled motions.npz#ROW."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1."""


@dataclass(frozen=True, kw_only=True)
class EncodeDataset(Reading):
    """A gallery to search, of a prepared dataset or of a folder of motion files. Run again, it adds what is new or has changed
    and drops what is gone."""

    model_path: Path = TMR
    """TMR (our folder or a published run) or an evaluator, ours or published (default: the weights that come with the code)."""
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
        if (self.dataset is None) == (self.motions is None):
            raise ValueError("give --dataset or --motions, one of them")


@dataclass(frozen=True, kw_only=True)
class Search(Part):
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
    """Search exactly whatever the size (default: by usearch above 200,000 motions)."""
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
        if sum(given is not None for given in (self.text, self.motion, self.like)) != 1:
            raise ValueError("give one of --text, --motion and --like")
        if self.motion is None and (self.start is not None or self.end is not None):
            raise ValueError("--start and --end choose a part of --motion")
        if self.to == "text" and (self.video or self.html):
            raise ValueError("--video and --html show motions: not with --to text")


@dataclass(frozen=True, kw_only=True)
class Localize(Sliding, Reading):
    """When in a long motion does this happen? Moments with scores, and a curve of the score over time."""

    model_path: Path = TMR
    """TMR (our folder or a published run) or an evaluator, ours or published (default: the weights that come with the code)."""
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
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1."""

    def __post_init__(self) -> None:
        Sliding.__post_init__(self)
        if (self.text is None) == (self.input_text is None):
            raise ValueError("give --text or --input_text, one of them")
