"""python -m train.export --checkpoint save/run --output checkpoints/NAME: a run's newest weights as a small folder to share.

With --onnx FOLDER its networks become .onnx files for other programs, with what is needed around them; with --webapp FOLDER a
page that makes motion from a free text in the browser.
"""

import logging
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from protos.flags import Range
from protos.options import command, run_command
from protos.reading import read_text
from sample.generation import DecodingSettings

if TYPE_CHECKING:
    from model.model import Model

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ExportOptions(DecodingSettings):
    """Write what sampling needs, and nothing else, of a training run; the weights then make motions so unless told otherwise."""

    checkpoint: Path
    """Run folder (its newest checkpoint is taken) or one checkpoint folder."""
    output: Path | None = None
    """Folder to write."""
    onnx: Path | None = None
    """Folder to write its networks to as ONNX, one call each, with the numbers of the sampling loop around them, the features of
    --prompts, and a short example in numpy."""
    int8: bool = False
    """With --onnx: write each network a second time, its linear layers in eight bits."""
    webapp: Path | None = None
    """Folder to write a page to that makes motion from a free text in the browser, offline, by its networks in eight bits."""
    onnxruntime_web: Path | None = None
    """Folder into which npm put onnxruntime-web, for --webapp (default: the current one, or save/npm)."""
    overwrite: bool = False
    """Replace what an earlier export wrote to these folders, if nothing else is there."""
    half: bool = True
    """Store float16 weights: half the size, the same motions to the eye."""
    spacing: Literal["even", "trailing", "strided"] | None = None
    """Which denoising steps these are: from the first to the last, the last of each equal part, or every so many-th (default: as
    trained)."""
    smoothing: Annotated[float, Range(0, 1000)] | None = None
    """Gaussian over sampled motions, sigma in frames (default: as trained)."""
    jitter_filter: Annotated[float, Range(0, 1000)] | None = None
    """Frequency in Hz from which on movement is filtered out of what the weights make, unless told otherwise; 0: none (default:
    as the checkpoint says). evaluations.eval_cleanup shows what helps."""
    foot_lock: bool | None = None
    """Whether planted feet are held still in it (default: as the checkpoint says)."""
    autoencoder: Path | None = None
    """Autoencoder whose decoder replaces the model's own: one trained by train.train_autoencoder --decoder_only."""
    individual_path: Path | None = None
    """Of two people: one-person prior with which the model becomes one folder of DualMDM."""
    parts_beside: bool = False
    """Leave out what the model stands on where it lies beside --output by its name (../lamp, ../tokenizer), exported before:
    several models then share it."""
    dataset: str | None = None
    """Name under which others know the data that it has learned from (default: as they were named in training)."""
    card: Path | None = None
    """Text that becomes the folder's README.md (default: the checkpoint's own)."""
    prompts: Path | None = None
    """Prompts that sampling uses when none is given (default: the checkpoint's own)."""

    def __post_init__(self) -> None:
        if self.int8 and self.onnx is None:
            raise ValueError("--int8 is about the networks of --onnx: give that a folder")
        if self.parts_beside and self.output is None:
            raise ValueError("--parts_beside is about the folder of --output: give that one")


def run(options: ExportOptions) -> Path:
    """Writes the folders and returns the checkpoint they came from. Raises FileNotFoundError, FileError or OutputError."""
    from model.checkpoints import save_pretrained
    from model.known_texts import KnownTexts
    from model.registry import checkpoint_in
    from train.checkpoints import complete
    from train.onnx_files import write_onnx
    from train.webapp_files import EXAMPLE, find_runtime, packed_files, write_webapp

    found = complete(options.checkpoint) if options.checkpoint.is_dir() else []
    source = found[-1] if found else checkpoint_in(options.checkpoint)
    require_places(options)
    runtime = find_runtime(options.onnxruntime_web) if options.webapp else None
    own_card, own_prompts = source / "README.md", source / "prompts.txt"
    card = read_text(options.card) if options.card else read_text(own_card) if own_card.is_file() else ""
    prompts = read_text(options.prompts) if options.prompts else read_text(own_prompts) if own_prompts.is_file() else ""
    texts = prompts_in(options.prompts or own_prompts) if options.prompts or own_prompts.is_file() else []
    model = as_asked(source, options)
    # What can be refused late comes first, so that a refusal leaves nothing.
    if options.onnx:
        write_onnx(options.onnx, model, texts, overwrite=options.overwrite, int8=options.int8)
        say_size(source, options.onnx)
    if options.webapp:
        files = packed_files(model, runtime)
        write_webapp(options.webapp, model, files, texts[0] if texts else EXAMPLE, overwrite=options.overwrite)
        say_size(source, options.webapp)
    if options.output:
        save_pretrained(options.output, model, card, half=options.half, overwrite=options.overwrite, prompts=prompts,
                        known_texts=KnownTexts.beside(source), shared=options.parts_beside)  # fmt: skip
        say_size(source, options.output)
    return source


def require_places(options: ExportOptions) -> None:
    """ValueError or OutputError where there is no folder to write, or one meets another or what it is made from, or holds
    something else."""
    from model.checkpoints import earlier_files
    from protos.outputs import require_replaceable
    from train.onnx_files import ONNX
    from train.webapp_files import WEBAPP

    folders = {"--output": options.output, "--onnx": options.onnx, "--webapp": options.webapp}
    written = {flag: folder for flag, folder in folders.items() if folder}
    if not written:
        raise ValueError("nothing to write: give --output FOLDER for a checkpoint, --onnx FOLDER for ONNX files, --webapp FOLDER "
                         "for a page")
    made_from = {"--checkpoint": options.checkpoint, "--autoencoder": options.autoencoder,
                 "--individual_path": options.individual_path}  # fmt: skip
    for flag, folder in written.items():
        for name, given in made_from.items():
            if given and given.exists():
                require_apart(folder, given, flag, name)
        kind = {"--output": "checkpoint", "--onnx": ONNX, "--webapp": WEBAPP}[flag]
        earlier = {"earlier": earlier_files} if flag == "--output" else {}
        require_replaceable(folder, kind, overwrite=options.overwrite, flag=flag, **earlier)
    for (flag, one), (other_flag, other) in combinations(written.items(), 2):
        if one_inside_the_other(one, other):
            raise ValueError(f"{flag} {one} and {other_flag} {other} are one inside the other: give each its own")


def as_asked(source: Path, options: ExportOptions) -> "Model":
    """The model of a checkpoint, with the parts and the ways of sampling that the options give it. ValueError, FileError."""
    from model.checkpoints import from_pretrained, load_part
    from model.dualmdm import load_dual

    model = load_dual(source, options.individual_path) if options.individual_path else from_pretrained(source)
    if options.autoencoder:
        replace_decoder(model, load_part(options.autoencoder, "autoencoder", "motion_autoencoder"), options.autoencoder)

    def given(*names: str) -> dict[str, object]:
        return {name: value for name in names if (value := getattr(options, name)) is not None}

    asked = given("guidance_scale", "sampler", "sampling_steps", "temperature", "top_k", "spacing", "smoothing")
    if unknown := [name for name in asked if not hasattr(model.config, name)]:
        raise ValueError(f"--{unknown[0]}: the model of {source} has no such setting")
    model.config = replace(model.config, **asked)
    model.cleanup = replace(model.cleanup, **given("jitter_filter", "foot_lock"))
    if options.dataset:
        name_data(model, options.dataset)
    return model


def say_size(source: Path, folder: Path) -> None:
    """What was written, and how large it is."""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    log.info("%s -> %s (%.1f MB)", source, folder, size)


def prompts_in(file: Path) -> list[str]:
    """The prompts in a file, without their lengths. FileError."""
    from sample.prompt_files import read_prompt_file

    return [request.text for request in read_prompt_file(file, 1, 1.0, 1_000_000_000)]


def require_apart(output: Path, given: Path, flag: str = "--output", of: str = "--checkpoint") -> None:
    """OutputError where a folder to write is, holds or lies in one that it is made from: that would remove what is in there."""
    from protos.outputs import OutputError

    if one_inside_the_other(output, given if given.is_dir() else given.parent):
        raise OutputError(f"{flag} {output} and {of} {given} are one inside the other: the export would replace what it is made "
                          f"from; give another {flag}")  # fmt: skip


def one_inside_the_other(one: Path, other: Path) -> bool:
    """Whether two folders are the same, or one lies in the other, links followed."""
    here, there = one.resolve(), other.resolve()
    return here == there or there.is_relative_to(here) or here.is_relative_to(there)


def name_data(model: "Model", name: str) -> None:
    """Says of a model, and of what it stands on, which data it has learned from."""
    if hasattr(model.config, "dataset"):
        model.config = replace(model.config, dataset=name)
    for part in model.parts.values():
        name_data(part, name)


def replace_decoder(model: "Model", autoencoder: "Model", folder: Path) -> None:
    """Puts the decoder of the autoencoder in `folder` into a model. ValueError unless the latents are the same."""
    import torch

    own = model.parts.get("autoencoder")
    if own is None or replace(own.config, dataset="") != replace(autoencoder.config, dataset=""):
        raise ValueError(f"--autoencoder {folder}: the model has no autoencoder of that kind")
    before = own.networks.state_dict()
    for name, value in autoencoder.networks.state_dict().items():
        if name.removeprefix("autoencoder.").startswith(own.network.LATENTS) and not torch.equal(value, before[name]):
            raise ValueError(f"--autoencoder {folder}: makes other latents than the model works in ({name} differs)")
    model.parts["autoencoder"] = autoencoder


main = command(ExportOptions, run, __doc__, {"num_steps": "sampling_steps"})

if __name__ == "__main__":
    run_command(main)
