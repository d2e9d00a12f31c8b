"""Making a gallery, or bringing it up to date: what is new or changed is encoded, what is gone leaves it."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from model.embedding import NoVectorError
from protos.files import file_lock, file_name, printable, short_hash
from protos.processes import Processes
from sample.gallery import CONTENT, LOCK, Clip, Gallery
from sample.gallery_sources import Source

log = logging.getLogger(__name__)
OUTPUTS = Path("outputs")
ROUND = 4096  # motions per process, after which the gallery is saved
READ_AT_ONCE = 512  # motions whose features are in memory


class Encoded(NamedTuple):
    """What became of a motion: its clips with their vectors (n, C), and what of it could not be used."""

    place: str
    clips: list[Clip]
    vectors: np.ndarray
    problem: str


def bring_up_to_date(folder: Path, source: Source, model_path: Path, texts: bool = True,
                     batch_size: int | None = None, processes: Processes | None = None) -> list[str]:
    """Makes or extends the gallery of a folder; several processes share the work. Returns what could not be used, a line each.

    texts: also encode the captions. Each save takes in what others have written to the gallery meanwhile, so that runs at the
    same time lose nothing. ValueError where nothing at all can be used.
    """
    processes = processes or Processes()

    def to_do() -> tuple[list[str], set[str], bool]:
        known = {gallery.place(clip): gallery.files.get(clip.source) for clip in gallery.clips}
        new = [place for place, stamp in source.stamps.items() if known.get(place) != stamp]
        return new, source.gone(gallery), bool(len(gallery.text_vectors)) == bool(texts and gallery.texts)

    gallery = opened_gallery(folder, model_path, source)
    problems = [f"{place}: {problem}" for place, problem in source.unreadable.items()] if processes.main else []
    # one process looks: another run may write the gallery just now
    places, gone, as_wanted = processes.from_main(to_do)
    tell(problems)
    if not places and not gone and as_wanted:
        log.info("%s: nothing new, %d motions", folder, len(gallery))
        return problems
    if gone:
        log.info("%d motions of the gallery are gone or were made again: they leave it", len(gone))
    fresh, step = 0, ROUND * processes.count
    with tqdm(total=-(-len(places) // processes.count), desc="encoding", unit="motion",
              disable=None if processes.main else True) as bar:  # fmt: skip
        for start in range(0, max(1, len(places)), step):
            encoded = processes.share(lambda own: encode_places(source, own, batch_size, bar), places[start : start + step])
            if not processes.main:
                continue
            bad = [each.problem if each.place in each.problem else f"{each.place}: {each.problem}"
                   for each in encoded if each.problem]  # fmt: skip
            tell(bad)
            problems += bad
            fresh += sum(bool(each.clips) for each in encoded)
            gone |= {each.place for each in encoded}
            gallery = saved(folder, source, model_path, texts, gone, encoded)
            gone = set() if len(gallery) else gone  # an empty gallery is not saved
    if processes.main and not len(gallery):
        raise ValueError(f"{source.given}: no motion that this model can read, {len(problems)} left out")
    log.info("%s: %d motions (%d files or clips new, %d left out), %d captions", folder, len(gallery), fresh, len(problems),
             len(gallery.texts))  # fmt: skip
    return problems


def tell(problems: Sequence[str]) -> None:
    for line in problems:
        log.warning("left out: %s", printable(line))


def encode_places(source: Source, places: Sequence[str], batch_size: int | None, bar: tqdm) -> list[Encoded]:
    """The motions at the places, in their order, with the problems of bad ones. But for rounding, what a motion becomes does
    not depend on its neighbours."""
    encoded = []
    for start in range(0, len(places), READ_AT_ONCE):
        read = []
        for place in places[start : start + READ_AT_ONCE]:
            try:
                read.append((place, *source.clips(place)))
            except (ValueError, OSError) as error:
                read.append((place, [], [str(error)]))
            bar.update()
        features = [each for _, found, _ in read for _, each in found]
        good = np.ones(len(features), bool)
        try:
            vectors = source.space.encode_motion(features, batch_size)
        except NoVectorError as error:
            vectors, good[error.rows] = error.vectors, False
        row = 0
        for place, found, problems in read:
            rows = range(row, row := row + len(found))
            problems += [f"{clip.start:.2f} to {clip.end:.2f} s: no finite vector, its features are far beyond those of motions"
                         for (clip, _), i in zip(found, rows) if not good[i]]  # fmt: skip
            clips = [clip for (clip, _), i in zip(found, rows) if good[i]]
            own = vectors[[i for i in rows if good[i]]]
            encoded.append(Encoded(place, clips, own, "; ".join(dict.fromkeys(problems))))
    return encoded


def saved(folder: Path, source: Source, model_path: Path, texts: bool, gone: set[str], encoded: Sequence[Encoded]) -> Gallery:
    """The gallery of a folder as it is now, without what is gone, with what was encoded; saved unless it is empty."""
    clips = [clip for each in encoded for clip in each.clips]
    if not (folder / CONTENT).is_file() and not clips:
        return opened_gallery(folder, model_path, source)
    folder.mkdir(parents=True, exist_ok=True)
    vectors = np.concatenate([each.vectors for each in encoded] or [np.zeros((0, source.space.dim))])
    stamps = {clip.source: source.stamps[each.place] for each in encoded for clip in each.clips}
    with file_lock(folder / LOCK, str(folder)):
        gallery = opened_gallery(folder, model_path, source).updated(gone, clips, vectors, stamps,
                                                                     source.space.encode_text if texts else None)  # fmt: skip
        if len(gallery):
            gallery.save(folder)
    return gallery


def opened_gallery(folder: Path, model_path: Path, source: Source) -> Gallery:
    """The gallery that is there, or an empty one."""
    space = source.space
    if not (folder / CONTENT).is_file():
        nothing = np.zeros((0, space.dim), np.float16)
        return Gallery(str(model_path.resolve()), space.fingerprint, space.features.fps, [], nothing, [], nothing, {})
    gallery = Gallery.load(folder)
    gallery.require(space, str(model_path))
    return gallery


def gallery_folder(model_path: Path, dataset: str | None, motions: Path | None) -> Path:
    """outputs/gallery_<model>_<dataset or folder>; of a path, with a hash that keeps it apart from others of its name."""
    path = Path(dataset or motions).resolve()
    name = file_name(path.name)
    if dataset is None or path.is_dir():
        name = f"{name}-{short_hash(str(path))}"
    return OUTPUTS / f"gallery_{file_name(model_path.resolve().name)}_{name}"
