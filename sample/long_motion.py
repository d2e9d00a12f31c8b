"""A long motion of a timeline, piece by piece: the whole body's texts, what lies over them, and what is done to it all at last.

No step holds more than a few pieces, whatever the length, until the motion is in its file.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.lib import format as npy
from torch import Tensor
from tqdm import tqdm

from data_loaders.corpus import Motion
from data_loaders.features import Features
from model.capabilities import AS_MADE, OWN, Cleanup, Composes, Decoding, Passage, Request
from protos.files import naming
from protos.randomness import derive_seed
from sample.generation import require_finite
from sample.timeline import Overlay, Timeline
from visualize.cleanup import cleaned_pieces
from visualize.joining import going_on
from visualize.laid_over import Laid, Reel, laid_over


def composed(model: Composes, timeline: Timeline, seed: int = 0, decoding: Decoding = OWN,
             cleanup: Cleanup = AS_MADE) -> Iterator[np.ndarray]:  # fmt: skip
    """Joints (n, J, 3) in metres, Y up, of a timeline, as they are made. ValueError for what the model cannot take,
    NotFiniteError."""
    features = model.features
    require_composable(features, timeline)
    fps, body = features.fps, features.body
    pieces = passages_in_world(model, timeline.passages(fps), seed, decoding)
    over = [
        Laid(Reel(_part(model, overlay, derive_seed(seed, "over", number), decoding)), overlay.start, overlay.stop,
             [body.index(name) for name in overlay.joints])
        for number, overlay in enumerate(timeline.overlays(fps))
    ]  # fmt: skip
    return cleaned_pieces(laid_over(pieces, over, fps, body) if over else pieces, fps, features.skeleton, cleanup)


def require_composable(features: Features, timeline: Timeline) -> None:
    """ValueError for motions of several people, or parts of a body that has other ones."""
    if features.persons != 1 or features.in_world:
        raise ValueError(f"this model makes {features.kind} motions: long ones are made of one person, relative to the body")
    if timeline.over and features.skeleton != "humanml":
        raise ValueError(f"line {timeline.over[0].number}: parts of the body are those of skeleton humanml, this model makes "
                         f"{features.skeleton}: leave them out")  # fmt: skip


def _part(model: Composes, overlay: Overlay, seed: int, decoding: Decoding) -> Iterator[np.ndarray]:
    return passages_in_world(model, [Passage(overlay.text, overlay.stop - overlay.start)], seed, decoding)


def passages_in_world(model: Composes, passages: Sequence[Passage], seed: int, decoding: Decoding) -> Iterator[np.ndarray]:
    """Joints (n, J, 3) float64 of passages, as they are made. NotFiniteError."""
    first = [Request(passages[0].text, passages[0].frames, seed)]
    for joints in in_world(model.compose(passages, seed, decoding), model.features):
        require_finite([bool(np.isfinite(joints).all())], model, first, decoding)
        yield joints


def in_world(pieces: Iterable[Tensor], features: Features) -> Iterator[np.ndarray]:
    """Joints (n, J, 3) float64 in metres of features (n, D) in their units that come piece by piece, each of which goes on where
    the one before ended."""
    last, there = None, None
    for piece in pieces:
        rows = piece if last is None else torch.cat([last, piece])
        joints = features.joints(rows[..., : features.read_columns]).double().numpy()
        if there is not None:
            joints = going_on(joints, there)[1:]
        last, there = piece[-1:], joints[-1]
        yield joints


def in_file(pieces: Iterable[np.ndarray], frames: int, path: Path, features: Features, captions: Sequence[str] = ()) -> Motion:
    """The motion of `frames` frames whose pieces (n, J, 3) go to a .npy file as they come, and are read from there."""
    header = {"descr": "<f4", "fortran_order": False, "shape": (1, frames, features.body.num_joints, 3)}
    bar = tqdm(total=frames, desc="composing", unit="frame", leave=False, disable=None)
    with bar, naming(path), open(path, "wb") as file:
        npy.write_array_header_1_0(file, header)
        for piece in pieces:  # written, not mapped: on a full disk that would end the process
            file.write(np.ascontiguousarray(piece, "<f4").tobytes())
            bar.update(len(piece))
    return Motion(np.load(path, mmap_mode="c"), features.fps, features.skeleton, tuple(captions))
