"""python -m sample.compose timeline.txt: one long motion of texts that follow each other, some of them of parts of the body."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tyro.conf import Positional

from protos.flags import with_defaults
from protos.options import KNOWN_BY_CHECKPOINT, command, run_command
from sample.exports import CleanupSettings, RunSettings
from sample.generation import STARTER, DecodingSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from data_loaders.corpus import Motion
    from model.capabilities import Request

COPY = "timeline.txt"


@dataclass(frozen=True, kw_only=True)
@with_defaults(num_repetitions=1)
class ComposeOptions(CleanupSettings, RunSettings, DecodingSettings):
    """Make one motion of any length of a timeline of texts."""

    timeline: Positional[Path]
    """File with a text and its time on each line: `text # seconds`, which begins where all above it ends, `text # start # end` in
    seconds, or `text # start # end # left arm`, of parts of the body, which lies over what the rest of it does."""
    model_path: Path = STARTER
    """Checkpoint of a model that makes long motions: our folder, an official folder, or a model*.pt in one (default: the weights
    that come with the code)."""


def run(options: ComposeOptions) -> None:
    """What cannot be asked for is refused before anything is made; a run that fails leaves no folder."""
    from tempfile import TemporaryDirectory

    from model.capabilities import Composes, Request
    from model.checkpoints import from_pretrained
    from model.precision import in_numbers
    from model.registry import able
    from protos.files import write_atomically
    from protos.processes import pick_device
    from sample.generation import require_total, unknown_prompts, warn_unknown, write_made
    from sample.long_motion import composed, in_file, require_composable
    from sample.timeline import read_timeline, unsaid_sides

    timeline = read_timeline(options.timeline)
    model = from_pretrained(options.model_path, pick_device(options.device), systems=able(Composes))
    model = in_numbers(model, options.precision)
    features = model.features
    require_composable(features, timeline)
    passages = timeline.passages(features.fps)
    frames = sum(passage.frames for passage in passages)
    require_total([frames], options.num_repetitions)
    texts = [said.text for said in (*timeline.base, *timeline.over)]
    warn_unknown([*unsaid_sides(timeline), *unknown_prompts(options.model_path, texts, model)])
    decoding, cleanup = options.decoding(options.batch_size), options.cleanup_of(model)
    said = "; ".join(passage.text for passage in passages)

    with TemporaryDirectory(prefix="moveo_compose_") as spool:

        def make(requests: "Sequence[Request]") -> "list[Motion]":
            return [
                in_file(composed(model, timeline, request.seed, decoding, cleanup), frames, Path(spool, f"{row}.npy"), features,
                        (said,))
                for row, request in enumerate(requests)
            ]  # fmt: skip

        folder = write_made(make, [Request(said, frames)], options, options.model_path, options.timeline.stem, features.skeleton)
    write_atomically(folder / COPY, timeline.told())


main = command(ComposeOptions, run, __doc__, {"out": "output_dir"}, ignored=KNOWN_BY_CHECKPOINT)

if __name__ == "__main__":
    run_command(main)
