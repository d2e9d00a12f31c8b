"""Clips packed into the store of a dataset, which `data_loaders.corpus` opens."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from data_loaders.features import Features, Statistics
from data_loaders.packed_clips import EARLIER_FILES, FORMAT_VERSION, Index
from data_loaders.text import Caption, TaggerName
from protos.files import encode_json, write_atomically
from protos.outputs import new_folder


@dataclass(frozen=True)
class NewClip:
    """One clip on its way into a corpus: denormalised features (T, D), captions, free labels (content, style, ...)."""

    name: str
    features: np.ndarray
    captions: Sequence[Caption]
    labels: dict = field(default_factory=dict)


def write_corpus(folder: Path, entries: Iterable[NewClip], features: Features, statistics: Statistics,
                 tagger: TaggerName = "") -> None:
    """Packs entries into `folder/corpus`, one clip in memory at a time; complete or not there at all. tagger: whose the tokens
    of all captions are.

    A corpus that is there stays until the new one is whole, and is exchanged for it. OutputError, before any work, where
    `folder/corpus` holds files of somebody else.
    """
    width = features.persons * features.width
    names, offsets, labels, captions = [], [0], [], {}
    digest = hashlib.sha256()
    with new_folder(Path(folder) / "corpus", "corpus", overwrite=True, earlier=EARLIER_FILES) as store:
        with open(store / "features.npy", "wb") as rows:
            rows.write(_npy_header((0, width)))
            for entry in entries:
                if entry.features.ndim != 2 or entry.features.shape[1] != width:
                    raise ValueError(
                        f"{entry.name}: features of shape {entry.features.shape}, "
                        f"expected (T, {width}) for skeleton {features.skeleton}"
                    )
                data = np.ascontiguousarray(entry.features, dtype="<f4").tobytes()
                digest.update(data)
                rows.write(data)
                names.append(entry.name)
                offsets.append(offsets[-1] + len(entry.features))
                labels.append(entry.labels)
                captions[entry.name] = [
                    (each.text, each.tokens, each.start, each.end, *([each.person] if each.person else ()))
                    for each in entry.captions
                ]
            rows.seek(0)
            rows.write(_npy_header((offsets[-1], width)))
        index = {"version": FORMAT_VERSION, **features.record(), "names": names, "offsets": offsets, "labels": labels,
                 "frames": digest.hexdigest(), "tagger": tagger}  # fmt: skip
        Index(**index).check(str(store / "index.json"))
        statistics.save(store / "stats.npz")
        write_atomically(store / "captions.json", encode_json(captions, "captions.json", None))
        write_atomically(store / "index.json", encode_json(index, "index.json", None))


def _npy_header(shape: tuple[int, int], size: int = 128) -> bytes:
    """A version 1.0 .npy header of float32 rows, always `size` bytes long so that the row count can be filled in last."""
    fields = repr({"descr": "<f4", "fortran_order": False, "shape": shape}).encode()
    return b"\x93NUMPY\x01\x00" + (size - 10).to_bytes(2, "little") + fields.ljust(size - 11) + b"\n"
