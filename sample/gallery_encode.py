"""Making a gallery, or bringing it up to date: what is new or changed is encoded, what is gone leaves it."""

import logging
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from protos.files import file_lock
from protos.names import printable, short_hash
from protos.processes import Processes
from sample.gallery import CONTENT, LOCK, Gallery, as_stored
from sample.gallery_sources import Encoded, Source, encode_items
from sample.prompts import file_name

log = logging.getLogger(__name__)
OUTPUTS = Path("outputs")
SAVE_EVERY = 300.0  # seconds
FIRST_ROUND = 256  # items per process, by which the time of the others is judged


def bring_up_to_date(folder: Path, source: Source, model_path: Path, texts: bool = True,
                     batch_size: int | None = None, processes: Processes | None = None) -> list[Encoded]:
    """Makes or extends the gallery of a folder; several processes share the work. Returns what could not be used.

    texts: also encode the captions. Each save takes in what others have written to the gallery meanwhile, so that runs at the
    same time lose nothing.
    """
    processes = processes or Processes()
    gallery = opened_gallery(folder, model_path, source)
    problems = [Encoded(place, [], [], gallery.vectors[:0], problem) for place, problem in source.unreadable.items()]
    if processes.main:
        tell(problems)
    # one process looks: another run may write the gallery just now
    items, gone, as_wanted = processes.from_main(lambda: (
        source.new(gallery), source.gone(gallery), (len(gallery.text_vectors) > 0) == (texts and len(gallery.texts) > 0)))
    if not items and not gone and as_wanted:
        log.info("%s: nothing new, %d motions", folder, len(gallery))
        return problems
    if gone:
        log.info("%d motions of the gallery are gone or were made again: they leave it", len(gone))
    fresh = 0
    for encoded in rounds(source, items, batch_size, processes):
        if not processes.main:
            continue
        tell(bad := [each for each in encoded if each.problem])
        problems += bad
        fresh += sum(bool(each.clips) for each in encoded)
        gallery = saved(folder, source, model_path, texts, gone, encoded)
        gone = set() if len(gallery) else gone  # an empty gallery is not saved
    if not processes.main:
        return []
    if not len(gallery):
        raise ValueError(f"{source.given}: no motion that this model can read, {len(problems)} left out")
    log.info("%s: %d motions (%d files or clips new, %d left out), %d captions", folder, len(gallery),
             fresh, len(problems), len(gallery.texts))  # fmt: skip
    return problems


def tell(problems: Sequence[Encoded]) -> None:
    """A line for each file, clip or folder that is left out."""
    for each in problems:
        line = each.problem if each.item in each.problem else f"{each.item}: {each.problem}"
        log.warning("left out: %s", printable(line))


def rounds(source: Source, items: Sequence[str], batch_size: int | None,
           processes: Processes) -> Iterator[list[Encoded]]:
    """The items encoded by all processes, in as many rounds as take about SAVE_EVERY seconds each; at least one round."""
    own = -(-len(items) // processes.count)
    with tqdm(total=own, desc="encoding", unit="motion", disable=None if processes.main else True) as bar:
        start, count = 0, FIRST_ROUND * processes.count
        while start == 0 or start < len(items):
            began = time.monotonic()
            yield processes.share(lambda part: encode_items(source, part, batch_size, bar), items[start : start + count])
            start += count
            seconds = processes.from_main(lambda began=began: time.monotonic() - began)
            count = max(1, int(count * min(16.0, SAVE_EVERY / max(seconds, 1e-3))))


def saved(folder: Path, source: Source, model_path: Path, texts: bool, gone: set[tuple[str, str]],
          encoded: Sequence[Encoded]) -> Gallery:
    """The gallery of a folder as it is now, without what is gone, with what was encoded; saved unless it is empty."""
    space = source.space
    if not (folder / CONTENT).is_file() and not any(each.clips for each in encoded):
        return opened_gallery(folder, model_path, source)
    folder.mkdir(parents=True, exist_ok=True)
    with file_lock(folder / LOCK, str(folder)):
        gallery = with_new(opened_gallery(folder, model_path, source).without(gone), encoded, source).compacted()
        known = gallery.text_vectors.reshape(-1, space.dim)
        if texts:
            known = np.concatenate([known, as_stored(space.encode_text(gallery.texts[len(known):]))])  # fmt: skip
        gallery.text_vectors = known if texts else known[:0]
        if len(gallery):
            gallery.save(folder)
    return gallery


def gallery_folder(model_path: Path, dataset: str | None, motions: Path | None) -> Path:
    """outputs/gallery_<model>_<dataset or folder>; of a path, with a hash that keeps it apart from others of its name."""
    path = Path(dataset or motions).resolve()
    name = file_name(path.name)
    if dataset is None or path.is_dir():
        name = f"{name}-{short_hash(str(path))}"
    return OUTPUTS / f"gallery_{file_name(model_path.resolve().name)}_{name}"


def opened_gallery(folder: Path, model_path: Path, source: Source) -> Gallery:
    """The gallery that is there, or an empty one."""
    space = source.space
    if not (folder / CONTENT).is_file():
        return Gallery.empty(str(model_path.resolve()), space.fingerprint, space.fps, space.dim)
    gallery = Gallery.load(folder)
    gallery.require(space, str(model_path))
    gallery.fingerprint = space.fingerprint  # of an earlier version, it is renewed
    return gallery


def with_new(gallery: Gallery, encoded: Sequence[Encoded], source: Source) -> Gallery:
    """The gallery with what was encoded, in place of what it had of the same items."""
    again = {each.item for each in encoded}
    old = {(clip.source, clip.name) for clip in gallery.clips if source.item_of(clip) in again}
    good = [each for each in encoded if each.clips]
    files = {path: stamp for each in good for path, stamp in source.stamps[each.item].items()}
    return gallery.without(old).extended(
        [clip for each in good for clip in each.clips], [texts for each in good for texts in each.captions],
        np.concatenate([each.vectors for each in good]) if good else gallery.vectors[:0], files,
    )  # fmt: skip
