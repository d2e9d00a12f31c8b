"""What a run says: a JSON line per interval, TensorBoard where installed, a progress bar or plain lines."""

import json
import logging
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from protos.files import naming, write_atomically
from protos.reading import FileError, decode_json, read_text
from train.checkpoints import LOG_FILE

logger = logging.getLogger(__name__)


class Meter:
    """Running means of the loss terms since the last log line, kept on the device so that no step waits for them.

    A term need not be there in every step: its mean is over the steps that had it.
    """

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, float] = {}

    def add(self, terms: dict[str, Tensor]) -> None:
        for name, term in terms.items():
            value = term.detach().double()
            self.sums[name] = self.sums[name] + value if name in self.sums else value
            self.counts[name] = self.counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        names = sorted(self.sums)
        sums, counts = self.table(names, "cpu")
        return dict(zip(names, (sums / counts).tolist()))

    def table(self, names: Sequence[str], device: torch.device | str) -> Tensor:
        """Sums and counts (2, names), zeros for names it has not."""
        zero = torch.zeros((), dtype=torch.float64, device=device)
        sums = [self.sums.get(name, zero).to(device) for name in names]
        counts = torch.tensor([self.counts.get(name, 0) for name in names], dtype=torch.float64, device=device)
        return torch.stack([torch.stack(sums) if sums else counts, counts])

    def set(self, names: Sequence[str], table: Tensor) -> None:
        """Takes over sums and counts (2, names)."""
        self.sums = dict(zip(names, table[0].unbind()))
        self.counts = dict(zip(names, table[1].tolist()))

    def state(self) -> dict:
        names = sorted(self.sums)
        sums, counts = self.table(names, "cpu")
        return {"names": names, "sums": sums, "counts": counts}

    def restore(self, state: dict, device: torch.device) -> None:
        names = list(state["names"])
        if names:  # earlier versions counted all terms together
            counts = state["counts"] if "counts" in state else torch.full((len(names),), float(state["count"]))
            self.set(names, torch.stack([state["sums"], counts.double()]).to(device))


class Progress:
    """The voice of the main process; on the others (`active` False) every call does nothing."""

    def __init__(self, save_dir: Path, step: int, num_steps: int, samples_per_step: int, active: bool):
        self.active, self.num_steps, self.samples_per_step = active, num_steps, samples_per_step
        self.step_at_start = self.step_at_log = step
        self.time_at_start = self.time_at_log = time.monotonic()
        self.bar = self.board = self.file = None
        if not active:
            return
        _cut_log(save_dir / LOG_FILE, step)
        self.file = open(save_dir / LOG_FILE, "a", encoding="utf-8")  # noqa: SIM115 - closed by close()
        self.board = _tensorboard(save_dir, step)
        if sys.stderr.isatty():
            self.bar = tqdm(total=num_steps, initial=step, unit="step", dynamic_ncols=True, smoothing=0.05)

    def advance(self) -> None:
        if self.bar is not None:
            self.bar.update()

    def log(self, step: int, values: dict[str, float]) -> None:
        """A line of the training log: values plus samples/s since the last line."""
        if not self.active:
            return
        now = time.monotonic()
        rate = (step - self.step_at_log) * self.samples_per_step / max(now - self.time_at_log, 1e-9)
        self.step_at_log, self.time_at_log = step, now
        self.write(step, {**values, "samples_per_second": round(rate, 2)})
        seconds_per_step = (now - self.time_at_start) / max(step - self.step_at_start, 1)
        eta = _clock((self.num_steps - step) * seconds_per_step)
        shown = {name: values[name] for name in ("loss", "grad_norm", "lr") if name in values}
        text = "  ".join(f"{name} {value:.4g}" for name, value in shown.items())
        if self.bar is not None:
            self.bar.set_postfix_str(f"{text}  {rate:.0f} samples/s")
        else:
            logger.info("step %d/%d  %s  %.1f samples/s  ETA %s", step, self.num_steps, text, rate, eta)

    def write(self, step: int, values: dict[str, float]) -> None:
        """One JSON line, where null stands for a number that is not finite, and the same numbers to TensorBoard."""
        if not self.active:
            return
        numbers = {name: value if math.isfinite(value) else None for name, value in values.items()}
        with naming(Path(self.file.name)):
            self.file.write(json.dumps({"step": step, "time": round(time.time(), 3), **numbers}) + "\n")
            self.file.flush()
        if self.board is not None:
            for name, value in values.items():
                if value is not None:
                    self.board.add_scalar(name, value, step)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time spent here, on evaluation or samples, does not count as training speed."""
        began = time.monotonic()
        yield
        spent = time.monotonic() - began
        self.time_at_start += spent
        self.time_at_log += spent

    def say(self, message: str, *parts: object) -> None:
        if not self.active:
            return
        if self.bar is not None:
            tqdm.write(message % parts, file=sys.stderr)
        else:
            logger.info(message, *parts)

    def close(self) -> None:
        for part in (self.bar, self.board):
            if part is not None:
                part.close()
        if self.file is not None:
            with naming(Path(self.file.name)):  # what a full disk has not taken yet
                self.file.close()


def _cut_log(path: Path, step: int) -> None:
    """Drops what a killed run logged after its last checkpoint, which is about to be logged again, and the line that it did not
    finish. Lines that are no record of ours stay. FileError where the file is no text."""
    if not path.is_file():
        return
    text = read_text(path)
    *lines, _ = text.split("\n")
    kept = "".join(f"{line}\n" for line in lines if _step_of(line, path) <= step)
    if kept != text:
        write_atomically(path, kept)


@dataclass(frozen=True)
class LogLine:
    """What every line of a log has."""

    step: int


def _step_of(line: str, path: Path) -> float:
    """The step of a line, -1 of one that has none."""
    try:
        return decode_json(line, LogLine, str(path)).step
    except FileError:
        return -1


def _tensorboard(save_dir: Path, step: int):
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(save_dir / "tensorboard"), purge_step=step)


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}"
