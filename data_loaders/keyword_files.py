"""Keywords of motions as published for CoMo and PGR2M: a file of text features beside a dataset for each motion.

`keyword_embeddings/NAME.npy` holds (slots * alternatives, D), the alternatives of a slot in a row.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from protos.reading import FileError, read_array


class KeywordFiles:
    """Features of the keywords of motions, by their names."""

    def __init__(self, folder: Path, rows: int):
        """rows: of every file. FileError where the folder is absent."""
        if not folder.is_dir():
            raise FileError(f"{folder} is absent: expected a folder of NAME.npy with features of keywords ({rows}, D)")
        self.folder, self.rows = folder, rows

    def read(self, names: Sequence[str]) -> np.ndarray | None:
        """(B, rows, D) of motions; None where one of them has no file. FileError for a file of another shape."""
        paths = [self.folder / f"{name}.npy" for name in names]
        if not all(path.is_file() for path in paths):
            return None
        return np.stack([read_array(path, shape=(self.rows, None), kinds="f", finite=True).astype(np.float32) for path in paths])
