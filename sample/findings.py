"""What `sample.retrieve` prints and writes: vectors, hits with their motions, and moments."""

import io
import logging
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from model.embedding import TextMotionSpace
from protos.files import (
    encode_csv,
    encode_json,
    file_lock,
    file_name,
    printable,
    run_folder,
    safe_name,
    short_hash,
    write_atomically,
)
from protos.outputs import Outputs, write_new
from sample.gallery import Gallery
from sample.gallery_search import Hit
from sample.gallery_sources import clip_motions, missing_line
from sample.localize import Moment

log = logging.getLogger(__name__)
LOCK = ".lock"
MOST_CURVES = 100  # in one picture, which is 15 m high then
HEADER = ("rank", "name", "start", "end", "caption", "score")


def write_vector(output: Path | None, model_path: Path, name: str, exactly: str, vector: np.ndarray) -> None:
    """Writes a vector to `output`; or as `name`, with a hash of what `exactly` was encoded where the name does not tell it, to
    outputs/encoded/<model>, where one that we wrote is replaced."""
    content = io.BytesIO()
    np.save(content, np.asarray(vector, np.float32))
    if output is not None:
        write_new(output, content.getvalue())
    else:
        kept = file_name(name)
        if kept.replace("-", " ") != exactly:
            kept = f"{kept}-{short_hash(exactly)}"
        folder = Path("outputs") / "encoded" / file_name(model_path.resolve().name)
        folder.mkdir(parents=True, exist_ok=True)
        with file_lock(folder / LOCK, str(folder)):
            outputs = Outputs(folder, "set of vectors", going_on=True, earlier=encoded_earlier)
            output = outputs.write(f"{kept}.npy", content.getvalue())
    log.info("%s: %d values", output, len(vector))


def encoded_earlier(folder: Path) -> set[str]:
    """Names that a version without manifests may have written to a folder of vectors."""
    return {LOCK, *(path.name for path in folder.glob("*.npy") if re.fullmatch(r"[a-z0-9-]+", path.stem))}


def listed(hits: Sequence[Hit]) -> str:
    """A line per hit; names and captions may be any text, of which a terminal gets nothing that it would obey."""
    told = [(hit, printable(hit.name), printable(hit.caption)) for hit in hits]
    width = max((len(name) for _, name, _ in told), default=0)
    return "\n".join(
        f"{i:3d}  {hit.score:.3f}  {name:{width}}  {hit.start:7.2f} - {hit.end:6.2f} s  {caption}".rstrip()
        for i, (hit, name, caption) in enumerate(told, 1)
    )


def write_hits(hits: Sequence[Hit], words: str, gallery: Path, json: Path | None, csv: Path | None) -> None:
    """The hits of a query of these words in a gallery, as JSON and as CSV, where a path is given."""
    rows = [[i, hit.name, round(hit.start, 3), round(hit.end, 3), hit.caption, round(hit.score, 4)]
            for i, hit in enumerate(hits, 1)]  # fmt: skip
    if json is not None:
        report = {"query": words, "gallery": str(gallery), "hits": [dict(zip(HEADER, row)) for row in rows]}
        write_new(json, encode_json(report, str(json)), "--json")
    if csv is not None:
        write_new(csv, encode_csv(HEADER, rows), "--csv")


def show(hits: Sequence[Hit], gallery: Gallery, space: TextMotionSpace, folder: Path, words: str, video: bool,
         html: bool) -> None:
    """<rank>_<name>.mp4 of each hit that can be shown, hits.html with all of them; nothing where none can."""
    from visualize.video import write_video
    from visualize.web_viewer import write_viewer

    rows = [hit.row for hit in hits]
    motions = clip_motions(gallery, rows, space)
    if missing := missing_line(gallery, rows, motions):
        log.warning("not shown: %s", missing)
    if not motions:
        log.warning("no video or page is written")
        return
    shown = [(i, hit, motions[hit.row]) for i, hit in enumerate(hits, 1) if hit.row in motions]
    with run_folder(folder) as folder:
        if video:
            for i, hit, motion in shown:
                write_video(folder / f"{i:02d}_{safe_name(hit.name)}.mp4", [motion], labels=[f"{hit.score:.2f}  {hit.name}"])
        if html:
            labels = [f"{i}  {hit.name}  {hit.score:.2f}" for i, hit, _ in shown]
            write_viewer(folder / "hits.html", [motion for _, _, motion in shown], labels=labels, title=words)
    log.info("%d motions in %s", len(shown), folder)


def write_moments(folder: Path, heading: dict, texts: Sequence[str], found: Sequence[Sequence[Moment]],
                  curves: Sequence[np.ndarray], fps: float) -> None:
    """Prints the moments found of each text, in seconds, and writes them to moments.json, below `heading`, and moments.csv;
    scores.png shows the curves [(T,)]."""
    from visualize.score_plot import write_score_plot

    told = [[{"start": round(moment.first / fps, 3), "end": round(moment.stop / fps, 3), "score": round(moment.score, 4)}
             for moment in each] for each in found]  # fmt: skip
    report = heading | {"texts": [{"text": text, "moments": each} for text, each in zip(texts, told)]}
    write_atomically(folder / "moments.json", encode_json(report, "moments.json"))
    rows = [[text, i, *moment.values()] for text, each in zip(texts, told) for i, moment in enumerate(each, 1)]
    write_atomically(folder / "moments.csv", encode_csv(("text", "rank", "start", "end", "score"), rows))
    if len(texts) > MOST_CURVES:
        log.info("scores.png shows the first %d of %d texts", MOST_CURVES, len(texts))
    spans = [[(moment["start"], moment["end"]) for moment in each] for each in told]
    write_score_plot(folder / "scores.png", curves[:MOST_CURVES], texts[:MOST_CURVES], spans[:MOST_CURVES], fps)
    for text, i, start, end, value in rows:
        print(f"{i:3d}  {value:.3f}  {start:7.2f} - {end:6.2f} s  {text}")
    log.info("moments.json, moments.csv and scores.png in %s", folder)
