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
        found = [read_array(path, shape=(self.rows, None), kinds="f", finite=True) for path in paths]
        for path, each in zip(paths, found, strict=True):
            if each.shape != found[0].shape:
                raise FileError(f"{path}: features of {each.shape[1]} channels, {paths[0].name} has {found[0].shape[1]}")
        return np.stack(found).astype(np.float32)
