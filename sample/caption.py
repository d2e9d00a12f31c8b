"""python -m sample.caption MOTION: what a motion file shows, in a sentence, by a model that describes motion."""

from dataclasses import dataclass
from pathlib import Path

from tyro.conf import Positional

from data_loaders.sources import Reading
from model.capabilities import Captioning
from protos.options import command, run_command
from sample.generation import CAPTIONER

SUFFIXES = (".txt", ".json")


@dataclass(frozen=True, kw_only=True)
class CaptionOptions(Captioning, Reading):
    """Say in a sentence what is done in motion files."""

    motions: Positional[tuple[Path, ...]]
    """.npy joints (T, J, 3), of several people (P, T, J, 3), in metres, Y up; .npz AMASS or joints; .bvh; a sampled
    motions.npz#ROW. Of several people each gets a sentence."""
    model_path: Path = CAPTIONER
    """Checkpoint of a model that describes motion: of train.train_m2t, or LaMP's published captioner."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1."""
    output: Path | None = None
    """File to write it to, .txt with a line FILE, a tab, caption, or .json, which counts files that are named twice (default: it
    is printed alone); one that is there is not replaced."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.motions:
            raise ValueError("name a motion file, or several")
        if self.output is not None and self.output.suffix.lower() not in SUFFIXES:
            raise ValueError(f"--output {self.output}: expected a file that ends in {' or '.join(SUFFIXES)}")


def run(options: CaptionOptions) -> dict[str, str]:
    """Prints a line for each motion, or each person of one. ValueError, after the others, where some could not be read."""
    from data_loaders.motion_features import read_people
    from model.capabilities import Describes
    from model.checkpoints import from_pretrained
    from model.registry import able
    from protos.files import encode_json, printable
    from protos.outputs import require_new, write_new
    from protos.processes import pick_device
    from sample.captions import by_name, captions_of

    require_new(options.output)
    model = from_pretrained(options.model_path, pick_device(options.device), systems=able(Describes))
    skeleton = model.features.body
    fps = model.features.fps
    said, bad = captions_of(model, options.motions, lambda path: read_people(path, skeleton, fps, options), options)
    for name, caption in said:
        print(f"{printable(name)}\t{caption}")
    if options.output is not None:
        text = "".join(f"{printable(name)}\t{caption}\n" for name, caption in said)
        json = options.output.suffix.lower() == ".json"
        write_new(options.output, encode_json(by_name(said), str(options.output), indent=2) + "\n" if json else text)
    if bad:
        raise ValueError(f"{len(bad)} of {len(options.motions)} motions have no caption: {'; '.join(bad[:3])}")
    return by_name(said)


main = command(CaptionOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
