"""python -m sample.interact --model_path FOLDER --text_interaction "two people dance": texts to motion of two people."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from model.capabilities import Decoding, Guidance
from protos.flags import GUIDANCE, Range
from protos.options import KNOWN_BY_CHECKPOINT, command, run_command
from sample.exports import RunSettings
from sample.generation import IN2IN, DecodingSettings

if TYPE_CHECKING:
    from model.dualmdm import DualMDM
    from model.in2in import In2IN


@dataclass(frozen=True, kw_only=True)
class BlendSettings:
    """How --mode dual blends what both do with what each does (default: as the checkpoint says)."""

    blend: Literal["exp", "exp-inv", "lin", "const"] | None = None
    """Share of the individual prior at step t of 1000: exp(-v(1000-t)), 1 minus that, t/1000, or v."""
    blend_value: Annotated[float, Range(0, 1)] | None = None
    """v of that share."""
    convert: bool | None = None
    """Tell each part of the motion in its own normalisation; --no_convert, as published, blends them as they are."""
    person2_layers: Literal["all", "last"] | None = None
    """Layers of the prior that person 2 goes through; in published code the last one only."""


@dataclass(frozen=True, kw_only=True)
class InteractOptions(BlendSettings, RunSettings, DecodingSettings):
    """Make motions of two people from texts. Joints of both in one world, one video, one page."""

    text_interaction: str
    """What the two do together, in English; with --mode individual what the one person does."""
    text_individual1: str | None = None
    """What person 1 does (default: follows from --text_interaction, see model/individual_texts.py)."""
    text_individual2: str | None = None
    """What person 2 does."""
    mode: Literal["individual", "interaction", "dual"] = "interaction"
    """Two people; dual: blended with what each does alone; individual: one person by the prior."""
    model_path: Path = IN2IN
    """Checkpoint of train.train_in2in, our folder or an official .ckpt or .pt, or one exported folder of both parts."""
    individual_path: Path | None = None
    """Checkpoint of the one-person prior, with --mode dual, where --model_path does not hold it; a model made of one (--prior)
    does."""
    motion_length: Annotated[float, Range(0, 86_400, above=True)] = 7.0
    """Length in seconds; longer than the model can make is cut, with a note."""
    guidance_interaction: Annotated[float, GUIDANCE] | None = None
    """Guidance by the text about both alone (default: the checkpoint's, 0 beside --guidance_scale); with --mode dual of the part
    of two people."""
    guidance_individual: Annotated[float, GUIDANCE] | None = None
    """Guidance by the texts about each; with --mode dual of the prior."""

    def decoding(self, batch_size: int) -> Decoding:
        """The same for the model, with the strengths of each role."""
        plain, roles = super().decoding(batch_size), (self.guidance_interaction, self.guidance_individual)
        return plain if roles == (None, None) else replace(plain, guidance_scale=Guidance(self.guidance_scale, *roles))


def run(options: InteractOptions) -> None:
    """What cannot be asked for is refused before anything is loaded; a run that fails leaves no folder."""
    from model.capabilities import Request
    from model.precision import in_numbers
    from protos.processes import pick_device
    from sample.generation import PromptError, clean_prompt, frames_of, require_total, unknown_prompts, warn_unknown, write_run

    text, individuals = clean_prompt(options.text_interaction), (options.text_individual1, options.text_individual2)
    given = [each for each in individuals if each is not None]
    if len(given) == 1:
        raise PromptError("give both --text_individual1 and --text_individual2, or neither")
    if given and options.mode == "individual":
        raise PromptError("--mode individual makes one person, from --text_interaction: leave the individual texts out")
    checkpoint = options.model_path
    model = open_model(options.mode, checkpoint, options.individual_path, options).to(pick_device(options.device)).eval()
    model = in_numbers(model, options.precision)
    frames = frames_of(options.motion_length, model.features.fps, model.config.max_frames)
    request = Request(text, frames, individual_texts=tuple(map(clean_prompt, given)) if given else None)
    require_total([frames], options.num_repetitions)
    warn_unknown(unknown_prompts(checkpoint, [text, *given], model))
    write_run(model, [request], options, options.decoding(options.batch_size), checkpoint, text)


def open_model(mode: str, path: Path, individual_path: Path | None, blend: BlendSettings) -> "In2IN | DualMDM":
    """The model of a mode. FileError or ValueError where the checkpoints hold no such model."""
    from dataclasses import fields

    from model.checkpoints import load_part
    from model.dualmdm import load_dual, of_one_person
    from protos.reading import FileError

    asked = {field.name: getattr(blend, field.name) for field in fields(BlendSettings)}
    asked = {name: value for name, value in asked.items() if value is not None}
    if mode == "dual":
        model = load_dual(path, individual_path)
        model.config = replace(model.config, **asked)
        return model
    if asked:
        raise ValueError(f"--{next(iter(asked))} belongs to --mode dual")
    if mode == "individual":
        return of_one_person(individual_path or path)
    model = load_part(path, mode, "in2in")
    if model.config.mode != mode:
        raise FileError(f"{path} holds a model of mode {model.config.mode}, asked for is --mode {mode}")
    return model


main = command(InteractOptions, run, __doc__, {"out": "output_dir"}, ignored=KNOWN_BY_CHECKPOINT)

if __name__ == "__main__":
    run_command(main)
