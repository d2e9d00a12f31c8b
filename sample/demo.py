"""python -m sample.demo: search motions and make them from text in a browser, at http://localhost:7860.

Needs gradio (the extra [demo]). Nothing leaves this machine: no public link, no telemetry, no fonts or scripts from elsewhere.

python -m sample.demo                                          with the weights that come with the code
python -m sample.demo --gallery G                              a gallery of sample.retrieve encode_dataset
python -m sample.demo --run_dir save/tmr --dataset humanml     the gallery is made on the first start
"""

import logging
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from protos.flags import Range
from protos.options import command, run_command

log = logging.getLogger(__name__)
ALIASES = {"run_dir": "model_path", "data": "dataset"}


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """What the demo shows and where."""

    gallery: Path | None = None
    """Gallery to search (default: outputs/gallery_<model>_<dataset>, made where it is absent)."""
    model_path: Path | None = None
    """TMR or an evaluator to search with (default: what made the gallery, or checkpoints/tmr)."""
    dataset: str | None = None
    """Dataset to make a gallery of (default: the one the model was trained on; where that is not prepared here, motions that
    the starter weights make)."""
    split: str = "all"
    """Split to make a gallery of."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 lets other machines in, by this one's addresses or its name."""
    port: Annotated[int, Range(1, 65_535)] = 7860
    """Port to listen at."""
    queue: Annotated[int, Range(1, 100_000)] = 32
    """Requests that may wait; further ones are turned away."""
    max_upload: Annotated[float, Range(0.001, 1000)] = 16.0
    """Largest motion file that is taken, in MB."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or 1."""

    def __post_init__(self) -> None:
        if not self.host or ":" in self.host:
            raise ValueError(f"--host {self.host}: expected a name or an address of four numbers, such as 127.0.0.1 or 0.0.0.0")


def require_free(host: str, port: int) -> None:
    """ValueError where nobody can listen there: before anything is made, which may take minutes."""
    import socket

    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            raise ValueError(f"nothing can listen at {host}:{port} ({error.strerror or error}): "
                             "choose another --port or --host") from None  # fmt: skip


def run(options: DemoOptions) -> None:
    """Opens what there is to search and to make motions with, and serves it until Ctrl-C or SIGTERM."""
    require_free(options.host, options.port)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # so that the folder goes
    from sample.demo_guard import scratch_folder

    with scratch_folder() as folder:  # everything that visitors send or ask for lies in it
        # gradio reads these when it is imported
        os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "GRADIO_TEMP_DIR": str(folder / "uploads"),
                       "GRADIO_EXAMPLES_CACHE": str(folder / "examples")}  # fmt: skip
        try:
            import gradio  # noqa: F401
        except ImportError as error:
            raise ValueError(f"the demo needs gradio ({error}): pip install gradio (the extra [demo])") from None
        from sample.demo_app import build, readers_of, serve
        from sample.demo_captions import Describer, captioners
        from sample.demo_maker import Maker, motion_checkpoints
        from sample.demo_service import open_search

        search = open_search(
            options.gallery, options.model_path, options.dataset, options.split, options.max_upload, options.device
        )
        checkpoints = motion_checkpoints()
        if search is None:
            log.info("no search: give --gallery, or --model_path and --dataset to make one")
        if search is None and not checkpoints:
            raise ValueError("neither a gallery nor a checkpoint that makes motion is here: give --gallery, "
                             "or put a checkpoint folder below checkpoints/")  # fmt: skip
        maker = Maker(checkpoints, options.device, options.max_upload) if checkpoints else None
        of_words = captioners()
        describer = Describer(of_words, options.device, options.max_upload) if of_words else None
        app, readers = build(search, maker, folder / "requests", describer), readers_of(search, maker, describer)
        serve(app, readers, folder, options.host, options.port, options.queue, options.max_upload)


main = command(DemoOptions, run, "\n\n".join(__doc__.split("\n\n")[:2]), ALIASES)  # the examples would be reflowed

if __name__ == "__main__":
    run_command(main)
