"""A command for several processes, one of which may come to grief, for the tests of how they end."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from protos.options import parse, run_command
from protos.processes import Processes, start


@dataclass(frozen=True)
class TinyCommandOptions:
    """Each process leaves a file `<rank>`; a text for the table of features is what the main process is asked to read."""

    folder: Path
    processes: int = 2
    device: str = "cpu"
    end: Literal["well", "table", "refused", "all_refused", "code", "killed", "fault", "waiting"] = "well"


class OfTwoArguments(RuntimeError):
    def __init__(self, one: int, other: int):
        super().__init__(f"{one} and {other}")


def run(options: TinyCommandOptions) -> None:
    processes = Processes(options.device)
    last = processes.rank == processes.count - 1
    if options.end == "table":
        from model.text_towers import load_text_encoder

        features = load_text_encoder("minilm").encode(["a person bows"])
        (options.folder / str(processes.rank)).write_text(f"{features.pooled.sum():.4f}")
        return
    (options.folder / str(processes.rank)).write_text(str(os.getpid()))
    if options.end == "all_refused" or (last and options.end == "refused"):
        raise ValueError("no such motion")
    if last and options.end == "code":
        raise SystemExit(7)
    if last and options.end == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if last and options.end == "fault":
        raise OfTwoArguments(1, 2)
    if options.end == "waiting":
        time.sleep(300)
    shared = processes.share(lambda own: [2 * item for item in own], list(range(5)))
    chosen = processes.from_main(lambda: processes.rank)
    if processes.main:
        print(shared, chosen)


if __name__ == "__main__":
    run_command(lambda: start(run, parse(TinyCommandOptions)))
