"""python -m train.extract --run_dir models/run: weights of a published run's training checkpoint, a file per network.

Writes <ckpt>_weights/{motion_encoder,text_encoder,motion_decoder}.pt into the run folder, where TMR's own programs and
these read them. Our own runs need no such step: python -m train.export makes a small folder of them.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from protos.options import command, run_command

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExtractOptions:
    """Take the weights out of a training checkpoint of TMR or TEMOS as published."""

    run_dir: Path
    """Run folder with logs/checkpoints/<ckpt>.ckpt."""
    ckpt: str = "last"
    """Name of the checkpoint without .ckpt."""
    overwrite: bool = False
    """Replace weights that are in <ckpt>_weights."""


def run(options: ExtractOptions) -> None:
    from model.official.tmr import checkpoint_file, extract

    path = checkpoint_file(options.run_dir, options.ckpt)
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in path.parent.glob("*.ckpt"))) or "none"
        raise FileNotFoundError(f"{path} is absent; checkpoints of this run: {known}. --run_dir must be a run of the published "
                                "TMR, and --ckpt one of its checkpoints (our own runs: python -m train.export)")  # fmt: skip
    log.info("%s -> %s", path, extract(options.run_dir, options.ckpt, overwrite=options.overwrite))


main = command(ExtractOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
