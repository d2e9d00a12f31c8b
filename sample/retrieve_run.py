"""What the subcommands of `sample.retrieve` do once their options are read; `encode_dataset` is in gallery_encode."""

import csv
import io
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model.embedding import NoVectorError, TextMotionSpace, open_space
from protos.files import encode_json, file_lock, write_atomically
from protos.names import printable, safe_name, short_hash
from protos.outputs import Outputs, require_new
from protos.processes import pick_device
from sample.gallery import Gallery
from sample.gallery_motions import clip_motions, missing_line
from sample.gallery_search import GallerySearch, Hit, score
from sample.localize import Moment, embed_windows, moments, score_curve
from sample.motion_files import cut_seconds, read_features
from sample.prompts import LONGEST_NAME, clean_prompt, file_name, new_folder, read_texts
from sample.retrieve_options import EncodeMotion, EncodeText, Localize, Search, TextMotionSim
from sample.search import unit_rows

log = logging.getLogger(__name__)
OUTPUTS = Path("outputs")
LOCK = ".lock"
MOST_CURVES = 100  # in one picture, which is 15 m high then


def encode_motion(options: EncodeMotion) -> None:
    """Writes the vector (C,) float32, not of unit length, of a motion."""
    require_new(options.output)
    space = open_space(options.model_path, pick_device(options.device))
    part = "" if options.start is options.end is None else f" {options.start} to {options.end}"
    name = encoded_name(options.motion.stem, f"{options.motion.resolve()}{part}")
    write_vector(options.output, options.model_path, name, motion_vector(options, space))


def encode_text(options: EncodeText) -> None:
    """Writes the vector (C,) float32, not of unit length, of a text."""
    text = clean_prompt(options.text)
    require_new(options.output)
    space = open_space(options.model_path, pick_device(options.device))
    write_vector(options.output, options.model_path, encoded_name(text, text), space.encode_text([text])[0])


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
    try:
        return space.encode_motion([part])[0]
    except NoVectorError as error:
        raise ValueError(f"{options.motion}: {error}") from None


def encoded_name(name: str, exactly: str) -> str:
    """<name>.npy, with a hash of what exactly was encoded where the name does not tell it."""
    kept = file_name(name, 10**6)
    if kept.replace("-", " ") != exactly or len(kept) > LONGEST_NAME:
        kept = f"{file_name(name)}-{short_hash(exactly)}"
    return f"{kept}.npy"


def write_vector(output: Path | None, model_path: Path, name: str, vector: np.ndarray) -> None:
    """Writes a vector to `output`, or under its name to outputs/encoded/<model>, where one that we wrote is replaced."""
    content = io.BytesIO()
    np.save(content, np.asarray(vector, np.float32))
    if output is not None:
        require_new(output)
        write_atomically(output, content.getvalue())
    else:
        folder = OUTPUTS / "encoded" / file_name(model_path.resolve().name)
        folder.mkdir(parents=True, exist_ok=True)
        with file_lock(folder / LOCK, str(folder)):
            output = Outputs(folder, "set of vectors", going_on=True, earlier=encoded_earlier).write(name, content.getvalue())
    log.info("%s: %d values", output, len(vector))


def encoded_earlier(folder: Path) -> set[str]:
    """Names that a version without manifests may have written to a folder of vectors."""
    return {LOCK, *(path.name for path in folder.glob("*.npy") if re.fullmatch(r"[a-z0-9-]+", path.stem))}


# ------------------------------------------------------------------------------------------------------------- search

HEADER = ("rank", "name", "start", "end", "caption", "score")


def search(options: Search) -> None:
    """Prints the hits, best first, and writes the files that were asked for."""
    text = None if options.text is None else clean_prompt(options.text)
    require_new(options.json, "--json")
    require_new(options.csv, "--csv")
    if options.json is not None and options.json == options.csv:
        raise ValueError(f"--json and --csv: both are {options.json}, expected two files")
    gallery = Gallery.load(options.gallery)
    finder = GallerySearch(gallery, options.exact)
    shows = options.video or options.html
    space = None
    if options.like is None or shows:
        model_path = options.model_path or Path(gallery.model)
        space = open_space(model_path, pick_device(options.device))
        gallery.require(space, str(model_path))
    own = None if options.like is None else gallery.row(options.like)
    if own is not None:
        query = np.asarray(gallery.vectors[own], np.float32)
    else:
        query = motion_vector(options, space) if text is None else space.encode_text([text])[0]
    hits = finder.texts(query, options.k) if options.to == "text" else finder.motions(
        query, options.k, own, options.fold_mirrored)  # fmt: skip
    if hits:
        print(listed(hits))
    else:
        log.warning("nothing found%s", ": no video or page is written" if shows else "")
    words = text or options.like or options.motion.stem
    rows = [[i, hit.name, round(hit.start, 3), round(hit.end, 3), hit.caption, round(hit.score, 4)]
            for i, hit in enumerate(hits, 1)]  # fmt: skip
    if options.json is not None:
        content = [dict(zip(HEADER, row)) for row in rows]
        report = {"query": words, "gallery": str(options.gallery), "hits": content}
        write_atomically(options.json, encode_json(report, str(options.json)))
    if options.csv is not None:
        write_atomically(options.csv, csv_text(HEADER, rows))
    if shows and hits:
        show(hits, gallery, space, options, words)


def listed(hits: Sequence[Hit]) -> str:
    """A line per hit; names and captions may be any text, of which a terminal gets nothing that it would obey."""
    told = [(hit, printable(hit.name), printable(hit.caption)) for hit in hits]
    width = max((len(name) for _, name, _ in told), default=0)
    return "\n".join(
        f"{i:3d}  {hit.score:.3f}  {name:{width}}  {hit.start:7.2f} - {hit.end:6.2f} s  {caption}".rstrip()
        for i, (hit, name, caption) in enumerate(told, 1)
    )


def csv_text(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows([header, *rows])
    return out.getvalue()


def show(hits: Sequence[Hit], gallery: Gallery, space: TextMotionSpace, options: Search, words: str) -> None:
    """<rank>_<name>.mp4 of each hit that can be shown, hits.html with all of them."""
    from visualize.video import write_video
    from visualize.web_viewer import write_viewer

    rows = [hit.row for hit in hits]
    motions = clip_motions(gallery, rows, space)
    if missing := missing_line(gallery, rows, motions):
        log.warning("not shown: %s", missing)
    if not motions:
        log.warning("no video or page is written")
        return
    folder = new_folder(options.output_dir or OUTPUTS / f"search_{file_name(words)}")
    shown = [(i, hit, motions[hit.row]) for i, hit in enumerate(hits, 1) if hit.row in motions]
    if options.video:
        for i, hit, motion in shown:
            write_video(folder / f"{i:02d}_{safe_name(hit.name)}.mp4", [motion], labels=[f"{hit.score:.2f}  {hit.name}"])
    if options.html:
        labels = [f"{i}  {hit.name}  {hit.score:.2f}" for i, hit, _ in shown]
        write_viewer(folder / "hits.html", [motion for _, _, motion in shown], labels=labels, title=words)
    log.info("%d motions in %s", len(shown), folder)


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
    write_atomically(folder / "moments.json", encode_json(report, "moments.json"))
    rows = [[text, i, *moment.values()] for text, each in zip(texts, seconds) for i, moment in enumerate(each, 1)]
    write_atomically(folder / "moments.csv", csv_text(["text", "rank", "start", "end", "score"], rows))
    spans = [[(moment["start"], moment["end"]) for moment in each] for each in seconds]
    if len(texts) > MOST_CURVES:
        log.info("scores.png shows the first %d of %d texts", MOST_CURVES, len(texts))
    write_score_plot(folder / "scores.png", curves[:MOST_CURVES], texts[:MOST_CURVES], spans[:MOST_CURVES], space.fps)
    for text, i, start, end, value in rows:
        print(f"{i:3d}  {value:.3f}  {start:7.2f} - {end:6.2f} s  {text}")
    log.info("moments.json, moments.csv and scores.png in %s", folder)


def in_seconds(moment: Moment, fps: float) -> dict[str, float]:
    return {"start": round(moment.first / fps, 3), "end": round(moment.stop / fps, 3), "score": round(moment.score, 4)}
