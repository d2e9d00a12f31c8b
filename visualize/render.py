"""python -m visualize.render motion.npy --format mp4,glb: motions as videos, pages, and files of other programs."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional

from data_loaders.sources import Reading
from protos.flags import Range, with_defaults
from protos.options import command, run_command
from visualize.formats import FileSettings

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
@with_defaults(format="mp4")
class RenderOptions(Reading, FileSettings):
    """Write motions in other formats."""

    motions: Positional[tuple[Path, ...]]
    """Files, or folders of them: .npy joints (T, J, 3), of several people (P, T, J, 3), in metres, Y up; .npz AMASS or joints;
    .bvh; the results of a run, motions.npz or motions.npy, or one of them, motions.npz#ROW."""
    output_dir: Path | None = None
    """Folder for the files (default: outputs/<name of the first>); an existing one is kept, `_2` is added."""
    workers: Annotated[int, Range(0, 1024)] = 0
    """Processes that write (0: one for each core)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.motions:
            raise ValueError("name a motion file, a folder of them, or several")


def run(options: RenderOptions) -> list[Path]:
    """Writes NAME.FORMAT of each motion and returns the files. What cannot be asked for is refused before anything is read; of
    several motions those that cannot be used are named and left out. ValueError where none is left."""
    from protos.files import file_name, numbered_folder
    from visualize.formats import formats_of
    from visualize.rendering import found_motions, read_all, write_named

    formats = formats_of(options)
    if not formats:
        raise ValueError("--format names no format: expected some, such as mp4,glb")
    motions = read_all(found_motions(options.motions), options, formats, options)
    folder = numbered_folder(options.output_dir or Path("outputs") / file_name(options.motions[0].name))
    try:
        files = write_named(folder, motions, formats, options, options.workers)
    except BaseException:
        if not any(folder.iterdir()):
            folder.rmdir()  # ours, and still empty
        raise
    log.info("%d files of %d motions in %s", len(files), len(motions), folder)
    return files


main = command(RenderOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
