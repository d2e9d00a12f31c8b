"""Features of as many columns as a case has, for networks smaller than those of any kind of motion."""

from dataclasses import dataclass

from data_loaders.features import Features


@dataclass(frozen=True)
class Columns(Features):
    """Features that are only counted."""

    count: int = 0

    @property
    def width(self) -> int:
        return self.count
