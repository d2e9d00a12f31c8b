"""What a retrieval gallery is made of: each clip of a split with its first caption."""

from typing import NamedTuple

import numpy as np

from data_loaders.clips import LeftOut, mirrored_twins
from data_loaders.corpus import Corpus
from data_loaders.text import Caption


class Item(NamedTuple):
    """A clip, or the part of it that its first caption describes: features (T, D) in their units."""

    name: str
    caption: Caption
    motion: np.ndarray


def items_of(
    data: Corpus, split: str, frame_limits: tuple[int, int], fold_mirrored: bool = False
) -> tuple[list[Item], LeftOut]:
    """Each clip of a split with its first caption, in the order of the list, and what was left out and why.

    Clips beyond the longest are cut. fold_mirrored: without mirrored clips (M000123) whose original (000123) is there.
    ValueError where nothing is left.
    """
    left_out, found, (shortest, longest) = LeftOut(), [], frame_limits
    captioned = data.captioned(split)
    for name in set(data.listed(split)) - {data.names[clip] for clip in captioned}:
        left_out.add(name, "missing: no annotation of a fitting length" if data.of_files else "missing")
    for clip, captions in captioned.items():
        name = data.names[clip]
        if not captions:
            left_out.add(name, "without caption")
            continue
        try:
            motion = data.cut(clip, captions[0])
        except (ValueError, OSError) as error:
            left_out.add(name, f"unreadable: {error}")
            continue
        if np.isfinite(motion).all():
            found.append(Item(name, captions[0], motion))
        else:
            left_out.add(name, "with NaN")
    folded = mirrored_twins([item.name for item in found], data.labels_of) if fold_mirrored else set()
    items = []
    for item in found:
        if item.name in folded:
            left_out.add(item.name, "mirrored")
        elif len(item.motion) < shortest:
            left_out.add(item.name, f"too short: {len(item.motion)} frames, {shortest} needed")
        else:
            items.append(item._replace(motion=item.motion[:longest]))
    if not items:
        raise ValueError(f"{data.folder}: no clip of split {split} can be used: {left_out}")
    return items, left_out
