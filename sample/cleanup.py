"""What is done to motions once a model has made them, as flags. Loads without torch."""

from dataclasses import dataclass
from typing import Literal

from model.capabilities import Cleanup, Generates

JITTER_CUTOFF = 6.0  # Hz, unless a checkpoint says otherwise: people move below it


@dataclass(frozen=True, kw_only=True)
class CleanupSettings:
    """What is done to motions once they are made"""

    cleanup: Literal["own", "none", "jitter", "feet", "all"] = "own"
    """Filter jitter out, hold planted feet still, or both (all); own: as the checkpoint says."""

    def cleanup_of(self, model: Generates) -> Cleanup:
        """What is done to motions of a model."""
        if self.cleanup == "own":
            return model.cleanup
        cutoff = model.cleanup.jitter_filter or JITTER_CUTOFF
        return Cleanup(cutoff if self.cleanup in ("jitter", "all") else 0.0, self.cleanup in ("feet", "all"))
