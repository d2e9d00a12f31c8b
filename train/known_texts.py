"""python -m train.known_texts --checkpoint checkpoints/mine --dataset bandai_namco: lets a checkpoint say what it does not know.

Training writes such a sketch of its captions (known_texts.npz) by itself; this adds one to weights that have none.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from protos.options import command, run_command

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class KnownTextsOptions:
    """Write a sketch of the training captions beside the weights."""

    checkpoint: Path
    """Checkpoint folder to write known_texts.npz into."""
    dataset: str
    """Prepared dataset that the weights were trained on: folder or known name."""
    split: str = "train"
    """Split that they were trained on."""
    overwrite: bool = False
    """Replace the sketch that is there."""


def run(options: KnownTextsOptions) -> None:
    """Writes the sketch. ValueError or OSError for what is no checkpoint, no dataset, or in the way."""
    from data_loaders.corpus import Corpus
    from model.known_texts import FILE, KnownTexts
    from model.registry import OF_ONE_CHECKPOINT
    from protos.outputs import MANIFEST, OutputError, Outputs, read_manifest

    folder = options.checkpoint
    if not any((folder / name).is_file() for name in OF_ONE_CHECKPOINT):
        raise ValueError(f"--checkpoint {folder}: expected the folder of a checkpoint, with {' or '.join(OF_ONE_CHECKPOINT)}")
    path = folder / FILE
    if path.exists() and not options.overwrite:
        raise OutputError(f"{path} is there already: add --overwrite to replace it")
    captioned = Corpus.open(options.dataset).captioned(options.split).values()
    sketch = KnownTexts.make([caption.text for captions in captioned for caption in captions])
    if (folder / MANIFEST).is_file() and (manifest := read_manifest(folder / MANIFEST)):
        path = Outputs(folder, manifest.what, going_on=True, flag="--checkpoint").path(FILE)
    sketch.save(path)
    log.info("%s (%.0f kB)", path, path.stat().st_size / 1e3)


main = command(KnownTextsOptions, run, __doc__)

if __name__ == "__main__":
    run_command(main)
