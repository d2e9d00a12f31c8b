"""The windows of localisation, as flags. No numpy, so that --help is instant."""

from dataclasses import dataclass
from typing import Annotated

from protos.flags import Range, check_bounds

Seconds = Annotated[float, Range(0, 1e6, above=True)]  # up to eleven days: no option means more
MOST_WINDOWS = 100  # lengths


@dataclass(frozen=True, kw_only=True)
class Sliding:
    """The windows that slide over a long motion."""

    window_seconds: tuple[Seconds, ...] = (1.0, 2.0, 4.0, 6.0, 8.0, 10.0)
    """Lengths of the windows."""
    stride_seconds: Seconds = 0.25
    """From one window to the next."""
    refine: bool = True
    """Let each moment grow while the curve stays in the upper half between its median and its maximum."""

    def __post_init__(self) -> None:
        check_bounds(self, "--")
        if not 0 < len(self.window_seconds) <= MOST_WINDOWS:
            raise ValueError(f"--window_seconds: {len(self.window_seconds)} lengths of windows, expected 1 to {MOST_WINDOWS}")
