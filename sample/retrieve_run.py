"""What the subcommands of `sample.retrieve` do once their options are read. Each returns what could not be used."""

import csv
import hashlib
import io
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from data_loaders.amass_dataset import open_dataset
from model.embedding import TextMotionSpace, open_space
from protos.files import atomic_file, write_atomically
from protos.options import pick_device
from protos.processes import Processes
from sample.gallery import Gallery, GallerySearch, Hit, as_stored, file_stamp, require_free, score
from sample.gallery_sources import DatasetSource, Encoded, FileSource, clip_motions, encode_items
from sample.localize import Moment, embed_windows, moments, score_curve
from sample.motion_files import cut_seconds, read_features
from sample.prompts import LONGEST_NAME, clean_prompt, file_name, new_folder, read_texts
from sample.retrieve_options import EncodeDataset, EncodeMotion, EncodeText, Localize, Search, TextMotionSim
from sample.search import unit_rows

log = logging.getLogger(__name__)
OUTPUTS = Path("outputs")


def encode_motion(options: EncodeMotion) -> None:
    """Writes the vector (C,) float32, not of unit length, of a motion."""
    space = open_space(options.model_path, pick_device(options.device))
    default = encoded_file(options.model_path, options.motion.stem)
    write_vector(options.output or default, motion_vector(options, space))


def encode_text(options: EncodeText) -> None:
    """Writes the vector (C,) float32, not of unit length, of a text."""
    text = clean_prompt(options.text)
    space = open_space(options.model_path, pick_device(options.device))
    write_vector(options.output or encoded_file(options.model_path, text), space.encode_text([text])[0])


def text_motion_sim(options: TextMotionSim) -> None:
    """Prints a line that ends with the score."""
    text = clean_prompt(options.text)
    space = open_space(options.model_path, pick_device(options.device))
    vectors = unit_rows(np.stack([space.encode_text([text])[0], motion_vector(options, space)]))
    print(f"The score (0 to 1) of the text with the motion {options.motion.name} is {score(vectors[0] @ vectors[1]):.3}")


def motion_vector(options: EncodeMotion | TextMotionSim | Search, space: TextMotionSpace) -> np.ndarray:
    """(C,) of the asked part of a motion file."""
    features = read_features(options.motion, space, options)
    part = cut_seconds(features, options.start, options.end, space.fps, str(options.motion))
    shortest, longest = space.frame_limits
    if not shortest <= len(part) <= longest:
        raise ValueError(f"{options.motion} has {len(part)} frames, this model reads {shortest} to {longest}: "
                         "choose a part with --start and --end, in seconds")  # fmt: skip
    return space.encode_motion([part])[0]


def encoded_file(model_path: Path, name: str) -> Path:
    """outputs/encoded/<model>/<name>.npy; of a name that is too long or not ASCII a hash keeps it apart from others."""
    kept = file_name(name, 10**6)
    if len(kept) > LONGEST_NAME or not name.isascii():
        kept = f"{file_name(name)}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return OUTPUTS / "encoded" / file_name(model_path.resolve().name) / f"{kept}.npy"


def write_vector(path: Path, vector: np.ndarray) -> None:
    with atomic_file(path) as file:
        np.save(file, np.asarray(vector, np.float32))
    log.info("%s: %d values", path, len(vector))


# ------------------------------------------------------------------------------------------------------------ gallery


def encode_dataset(options: EncodeDataset) -> list[Encoded]:
    """Makes or extends a gallery; several processes share the work. Returns what could not be used."""
    processes = Processes(options.device)
    given = Path(options.dataset if options.dataset is not None else options.motions)
    folder = options.gallery or gallery_folder(options.model_path, given)
    require_free(folder)
    space = open_space(options.model_path, processes.device)
    gallery = opened_gallery(folder, options.model_path, space)
    source, items = source_of(options, gallery, space)
    if not items and len(gallery) and (len(gallery.text_vectors) > 0) == (options.texts and len(gallery.texts) > 0):
        log.info("%s: nothing new, %d motions", folder, len(gallery))
        return []
    encoded = processes.share(lambda own: encode_items(source, own, options.batch_size, processes.main), items)
    if not processes.main:
        return []
    problems = [each for each in encoded if each.problem]
    for each in problems:
        log.warning("left out: %s", each.problem if each.item in each.problem else f"{each.item}: {each.problem}")
    gallery = with_new(gallery, encoded, options if isinstance(source, FileSource) else None)
    if not len(gallery):
        raise ValueError(f"{given}: no motion that this model can read, {len(problems)} left out")
    if options.texts and gallery.texts:
        gallery.text_vectors = with_new_texts(gallery, space)
    else:
        gallery.text_vectors = np.zeros((0, space.dim), np.float16)
    gallery.save(folder)
    log.info("%s: %d motions (%d files or clips new, %d left out), %d captions", folder, len(gallery),
             len(encoded) - len(problems), len(problems), len(gallery.texts))  # fmt: skip
    return problems


def gallery_folder(model_path: Path, given: Path) -> Path:
    """outputs/gallery_<model>_<dataset or folder>."""
    return OUTPUTS / f"gallery_{file_name(model_path.resolve().name)}_{file_name(given.resolve().name)}"


def opened_gallery(folder: Path, model_path: Path, space: TextMotionSpace) -> Gallery:
    """The gallery that is there, or an empty one."""
    if (folder / "gallery.json").is_file():
        gallery = Gallery.load(folder)
        gallery.require(space.fingerprint, str(model_path))
        return gallery
    return Gallery(str(model_path.resolve()), space.fingerprint, space.fps, np.zeros((0, space.dim), np.float16))


def source_of(options: EncodeDataset, gallery: Gallery, space: TextMotionSpace) -> tuple[DatasetSource | FileSource, list[str]]:
    """What is to be read, and which of it is new to the gallery."""
    if options.dataset is not None:
        source = DatasetSource(open_dataset(options.dataset), options.split, space)
        return source, source.new(gallery)
    source = FileSource(options.motions, space, options, options.longest_seconds)
    return source, [file for file in source.names if gallery.files.get(file) != file_stamp(Path(file), options)]


def with_new(gallery: Gallery, encoded: Sequence[Encoded], options: EncodeDataset | None) -> Gallery:
    """The gallery with what was encoded; of files that have changed the old parts are gone."""
    read_again = {each.item for each in encoded}
    gallery = gallery.without({(clip.source, clip.name) for clip in gallery.clips if clip.source in read_again})
    good = [each for each in encoded if not each.problem]
    files = {} if options is None else {each.item: file_stamp(Path(each.item), options) for each in good}
    return gallery.extended(
        [clip for each in good for clip in each.clips], [texts for each in good for texts in each.captions],
        np.concatenate([each.vectors for each in good]) if good else gallery.vectors[:0], files,
    )  # fmt: skip


def with_new_texts(gallery: Gallery, space: TextMotionSpace) -> np.ndarray:
    """Unit vectors (M, C) of all captions; those that are known stay."""
    known = gallery.text_vectors.reshape(-1, space.dim)
    return np.concatenate([known, as_stored(space.encode_text(gallery.texts[len(known):]))])  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- search


def search(options: Search) -> None:
    """Prints the hits, best first, and writes the files that were asked for."""
    text = None if options.text is None else clean_prompt(options.text)
    gallery = Gallery.load(options.gallery)
    finder = GallerySearch(gallery, options.exact)
    shows = options.video or options.html
    space = None
    if options.like is None or shows:
        model_path = options.model_path or Path(gallery.model)
        space = open_space(model_path, pick_device(options.device))
        gallery.require(space.fingerprint, str(model_path))
    own = None if options.like is None else gallery.row(options.like)
    if own is not None:
        query = np.asarray(gallery.vectors[own], np.float32)
    else:
        query = motion_vector(options, space) if text is None else space.encode_text([text])[0]
    hits = finder.texts(query, options.k) if options.to == "text" else finder.motions(
        query, options.k, own, options.fold_mirrored)  # fmt: skip
    print(listed(hits))
    words = text or options.like or options.motion.stem
    if options.json is not None:
        content = [{"rank": i + 1, **named(hit)} for i, hit in enumerate(hits)]
        write_atomically(options.json, json.dumps({"query": words, "gallery": str(options.gallery), "hits": content}, indent=1))
    if options.csv is not None:
        rows = [[i + 1, *named(hit).values()] for i, hit in enumerate(hits)]
        write_atomically(options.csv, csv_text(["rank", *named(hits[0])] if hits else ["rank"], rows))
    if shows:
        show(hits, gallery, space, options, words)


def named(hit: Hit) -> dict:
    return {"name": hit.name, "start": round(hit.start, 3), "end": round(hit.end, 3), "caption": hit.caption,
            "score": round(hit.score, 4)}  # fmt: skip


def listed(hits: Sequence[Hit]) -> str:
    """A line per hit."""
    width = max((len(hit.name) for hit in hits), default=0)
    return "\n".join(
        f"{i:3d}  {hit.score:.3f}  {hit.name:{width}}  {hit.start:7.2f} - {hit.end:6.2f} s  {hit.caption}".rstrip()
        for i, hit in enumerate(hits, 1)
    )


def csv_text(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows([header, *rows])
    return out.getvalue()


def show(hits: Sequence[Hit], gallery: Gallery, space: TextMotionSpace, options: Search, words: str) -> None:
    """<rank>_<name>.mp4 of each hit, hits.html with all of them."""
    from visualize.video import write_video
    from visualize.web_viewer import write_viewer

    motions = list(clip_motions(gallery, [hit.row for hit in hits], space))
    folder = new_folder(options.output_dir or OUTPUTS / f"search_{file_name(words)}")
    labels = [f"{i}  {hit.name}  {hit.score:.2f}" for i, hit in enumerate(hits, 1)]
    if options.video:
        for i, (hit, motion) in enumerate(zip(hits, motions), 1):
            write_video(folder / f"{i:02d}_{file_name(hit.name)}.mp4", [motion], labels=[f"{hit.score:.2f}  {hit.name}"])
    if options.html:
        write_viewer(folder / "hits.html", motions, labels=labels, title=words)
    log.info("%d motions in %s", len(motions), folder)


# ----------------------------------------------------------------------------------------------------------- localise


def localize(options: Localize) -> None:
    """Prints the moments of each text, and writes moments.json, moments.csv and scores.png."""
    from visualize.score_plot import write_score_plot

    if options.text is not None:
        texts = [clean_prompt(options.text)]
    else:
        texts = read_texts(options.input_text)
    space = open_space(options.model_path, pick_device(options.device))
    features = read_features(options.motion, space, options)
    windows = embed_windows(features, space, options, options.batch_size)
    scores = [windows.scores(vector) for vector in space.encode_text(texts)]
    curves = [score_curve(windows, each) for each in scores]
    found = [moments(windows, each, options.k, options.refine) for each in scores]
    seconds = [[in_seconds(moment, space.fps) for moment in each] for each in found]
    folder = new_folder(options.output_dir or OUTPUTS / f"localize_{file_name(options.motion.stem)}")
    report = {
        "motion": str(options.motion), "seconds": round(len(features) / space.fps, 3), "windows": len(windows.spans),
        "texts": [{"text": text, "moments": each} for text, each in zip(texts, seconds)],
    }  # fmt: skip
    write_atomically(folder / "moments.json", json.dumps(report, indent=1))
    rows = [[text, i, *moment.values()] for text, each in zip(texts, seconds) for i, moment in enumerate(each, 1)]
    write_atomically(folder / "moments.csv", csv_text(["text", "rank", "start", "end", "score"], rows))
    spans = [[(moment["start"], moment["end"]) for moment in each] for each in seconds]
    write_score_plot(folder / "scores.png", curves, texts, spans, space.fps)
    for text, i, start, end, value in rows:
        print(f"{i:3d}  {value:.3f}  {start:7.2f} - {end:6.2f} s  {text}")
    log.info("moments.json, moments.csv and scores.png in %s", folder)


def in_seconds(moment: Moment, fps: float) -> dict[str, float]:
    return {"start": round(moment.first / fps, 3), "end": round(moment.stop / fps, 3), "score": round(moment.score, 4)}
