"""python -m sample.edit motion.npy --edit "raise the left arm higher between 2s and 4s": a motion, changed as words say."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional

from data_loaders.sources import Reading
from protos.flags import SHARE, with_defaults
from protos.options import KNOWN_BY_CHECKPOINT, command, run_command
from sample.edit_wishes import Endpoint, edits_from_wish
from sample.generation import PGR2M, STARTER, DecodingSettings, RunSettings

if TYPE_CHECKING:
    import numpy as np

    from data_loaders.corpus import Motion

BEFORE_AFTER, SAID = "before_after", "edit.txt"
MOST_LINES = 40  # that are printed of what becomes of codes


@dataclass(frozen=True, kw_only=True)
@with_defaults(num_repetitions=1, html=True)
class EditOptions(Reading, RunSettings, DecodingSettings):
    """Edit a motion by words about its parts (--edit, --wish), or keep some of it and make the rest from a text (--keep)."""

    motion: Positional[Path]
    """.npy joints (T, 22, 3) in metres, Y up; .npz AMASS or joints; .bvh; a sampled motions.npz#ROW. One person, of any frame
    rate."""
    edit: str | None = None
    """What becomes of which part, when, with semicolons between: "raise the left arm between 2s and 4s; bend the right knee by 30
    degrees; hands together until 3s; slower; mirror; repeat; keep the legs" (data_loaders/edit_grammar.py)."""
    wish: str | None = None
    """The same in any words, which the language model at --endpoint puts into edits."""
    endpoint: str | None = None
    """With --wish: address of an OpenAI-compatible server, such as https://host/v1; its key is read from OPENAI_API_KEY."""
    endpoint_model: str | None = None
    """With --wish: name of the language model."""
    keep: Literal["prefix", "suffix", "in_between", "upper_body", "lower_body", "root"] | None = None
    """What stays while a text-to-motion model makes the rest: the beginning, the end, both, or a part of the body; root: the way
    and heading."""
    prefix_end: Annotated[float, SHARE] = 0.25
    """With --keep prefix or in_between: until which share of the time the motion stays."""
    suffix_start: Annotated[float, SHARE] = 0.75
    """With --keep suffix or in_between: from which share of the time on it stays."""
    text_prompt: str | None = None
    """With --keep what the person does, in English; with --edit what the motion shows, for the detail of edited poses (default:
    that somebody moves)."""
    model_path: Path | None = None
    """Checkpoint: for edits of pose codes, CoMo or PGR2M (default: checkpoints/pgr2m); with --keep any that makes motion of text
    (default: the weights that come with the code)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        given = [name for name in ("edit", "wish", "keep") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"--edit, --wish and --keep are ways to edit: give one of them, not {' and '.join(given) or 'none'}")
        if self.wish is not None and not (self.endpoint and self.endpoint_model):
            raise ValueError("--wish is put into edits by a language model: give --endpoint and --endpoint_model, or use --edit")


def run(options: EditOptions) -> None:
    """What cannot be asked for is refused before anything is made; a run that fails leaves no folder."""
    if options.keep is None:
        edit_poses(options)
    else:
        complete(options)


def edit_poses(options: EditOptions) -> None:
    """Edits of pose codes: prints what becomes of them, and how many the result has."""
    from data_loaders.edit_grammar import parse_edits
    from data_loaders.pose_code_table import STRIDE
    from model.capabilities import Edits, Request
    from protos.files import write_atomically
    from sample.edits import NEUTRAL, edited_motions, planned
    from sample.generation import clean_prompt, require_total, write_made

    if options.edit is not None:
        parse_edits(options.edit)
    endpoint = None if options.wish is None else Endpoint(options.endpoint, options.endpoint_model)
    text = NEUTRAL if options.text_prompt is None else clean_prompt(options.text_prompt)
    checkpoint = options.model_path or PGR2M
    model, joints = _opened(options, checkpoint, Edits)
    features = model.features
    asked = options.edit if endpoint is None else edits_from_wish(options.wish, endpoint, len(joints) / features.fps)
    if endpoint is not None:
        print(f"edits: {asked}")
    plan = planned(joints, features, asked, str(options.motion))
    require_total([STRIDE * len(plan.after.source)], options.num_repetitions)
    print(shortened(plan.told()))
    decoding, made = options.decoding(options.batch_size), []

    def make(requests: "list[Request]") -> "list[Motion]":
        made.extend(edited_motions(model, plan, requests, decoding))
        return made

    folder = write_made(make, [Request(text, len(joints))], options, checkpoint, f"{options.motion.stem} {asked}",
                        features.skeleton)  # fmt: skip
    obeyed = plan.obeyed(made[0], features)
    print(obeyed)
    write_atomically(folder / SAID, f"{asked}\n\n{plan.told()}\n{obeyed}\n")
    write_before_after(folder, plan.motion, made, options)


def complete(options: EditOptions) -> None:
    """Keeps what is to stay, and makes the rest."""
    from data_loaders.corpus import Motion
    from model.capabilities import Generates, Request
    from sample.completion import completed_motions, completion_of
    from sample.generation import PromptError, clean_prompt, require_total, unknown_prompts, warn_unknown, write_made

    text = "" if options.text_prompt is None else clean_prompt(options.text_prompt)
    checkpoint = options.model_path or STARTER
    model, joints = _opened(options, checkpoint, Generates)
    if model.config.reads_text and not text:
        raise PromptError("--keep: the rest is made from a text: give --text_prompt")
    completion = completion_of(joints, model.features, model.config.max_frames, options.keep, options.prefix_end,
                               options.suffix_start)  # fmt: skip
    frames = len(completion.joints)
    require_total([frames], options.num_repetitions)
    warn_unknown(unknown_prompts(checkpoint, [text], model) if text else [])
    decoding, made = options.decoding(options.batch_size), []

    def make(requests: "list[Request]") -> "list[Motion]":
        made.extend(completed_motions(model, completion, requests, decoding))
        return made

    features = model.features
    folder = write_made(make, [Request(text, frames)], options, checkpoint, f"{options.motion.stem} {options.keep} kept {text}",
                        features.skeleton)  # fmt: skip
    write_before_after(folder, Motion(completion.joints[None], features.fps, features.skeleton), made, options)


def _opened(options: EditOptions, checkpoint: Path, capability: type) -> "tuple[Any, np.ndarray]":
    """A model that can do so, and the joints (T, J, 3) of the motion at its frame rate. FileError or ValueError where one of them
    will not do."""
    from data_loaders.motion_features import read_people
    from model.checkpoints import from_pretrained
    from model.registry import able
    from protos.processes import pick_device
    from sample.edits import require_edited

    model = from_pretrained(checkpoint, pick_device(options.device), systems=able(capability))
    require_edited(model.features)
    (joints,) = read_people(options.motion, model.features.body, model.features.fps, options, persons=1)
    return model, joints


def shortened(told: str) -> str:
    """The first lines, and how many more there are."""
    lines = told.splitlines()
    more = f"\n... and {len(lines) - MOST_LINES} more lines, in {SAID}" if len(lines) > MOST_LINES else ""
    return "\n".join(lines[:MOST_LINES]) + more


def write_before_after(folder: Path, before: "Motion", made: "list[Motion]", settings: RunSettings) -> None:
    """The given motion beside what was made of it, as before_after.mp4 and .html, and its joints as joints/before.npy."""
    from data_loaders.motion_files import write_joints
    from visualize.video import write_video
    from visualize.web_viewer import write_viewer

    motions = [before, *made]
    labels = ["before", *(["after"] if len(made) == 1 else [f"after, rep{k:02d}" for k in range(len(made))])]
    write_joints(folder / "joints" / "before.npy", before)
    if settings.video:
        write_video(folder / f"{BEFORE_AFTER}.mp4", motions, labels=labels, body=settings.body)
    if settings.html:
        write_viewer(folder / f"{BEFORE_AFTER}.html", motions, labels=labels, body=settings.body)


main = command(EditOptions, run, __doc__, {"out": "output_dir"}, ignored=KNOWN_BY_CHECKPOINT)

if __name__ == "__main__":
    run_command(main)
