"""A model as a page that makes motion from a free text in the browser: its networks, the loop around them, and the player.

The page is `webapp/page.html` with its style, its scripts and the model's numbers filled in. What is large is packed by gzip and
lies in the page itself, or beside it where that would make a page too large for browsers.
"""

import base64
import gzip
import html
import logging
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from data_loaders.motion_files import motion_of
from model.model import Model
from model.network_calls import SampledOutside
from model.registry import system_of
from protos.files import write_atomically
from protos.outputs import new_folder
from protos.reading import FileError
from train.onnx_files import calls_of, reader_of, require_onnx, settings_of, write_int8, write_network
from visualize.body import SMOOTHING, STILL_RADIUS
from visualize.web_viewer import digest, filled, page_digests, script_json, viewer_html

WEBAPP = "web page"  # what the folder is
PAGE = Path(__file__).with_name("webapp")
SCRIPTS = ("word_pieces.js", "sampler.js", "page.js")
RUNTIME = {"onnxruntime.mjs": "ort.wasm.bundle.min.mjs", "onnxruntime.wasm": "ort-wasm-simd-threaded.wasm"}
INSTALL = "npm install --prefix save/npm onnxruntime-web@1.30.0"
PLACES = (Path(), Path("save/npm"))  # where that, or npm install in the current folder, puts it
LARGEST = 60_000_000  # bytes of a page that holds everything
SERVE = ("Browsers do not read files beside a page that was opened from the disk: in its folder, run "
         "python -m http.server --bind 127.0.0.1 8000 and open http://127.0.0.1:8000")  # fmt: skip
EXAMPLE = "a person walks forward"  # of a checkpoint without prompts
SECONDS = 6.0  # of a motion, unless asked otherwise

log = logging.getLogger(__name__)


def find_runtime(folder: Path | None = None) -> Path:
    """Folder of onnxruntime-web's files, given the package or the folder into which npm put it. FileError if they are absent."""
    places = PLACES if folder is None else (folder,)
    for place in places:
        for package in (place / "node_modules" / "onnxruntime-web", place / "onnxruntime-web", place):
            if all((package / "dist" / file).is_file() for file in RUNTIME.values()):
                return package / "dist"
    raise FileError(f"onnxruntime-web, which runs networks in a browser, is not in {' or '.join(map(str, places))}: {INSTALL}")


def require_web(model: Model) -> None:
    """ValueError for a model of which no page can be made, which says why."""
    if not isinstance(model, SampledOutside) or model.config.condition != "text":
        kind = f"{system_of(model).name}{' without texts' if isinstance(model, SampledOutside) else ''}"
        raise ValueError(f"a page makes motion of texts by latent and lsremgm models, not by this one of kind {kind}")
    if model.features.kind != "humanml" or model.features.persons != 1:
        raise ValueError(f"a page shows humanml features of one person: this model makes {model.features.kind} features of "
                         f"{model.features.persons}")
    if reader_of(model) is None:
        raise ValueError(f"a page reads texts by minilm or another BERT: this model's are read by {model.config.text_encoder}")
    if model.parts.get("autoencoder", model).mean is None:
        raise ValueError("a page needs the mean and std of the model's features, of which the checkpoint has none")


def packed_files(model: Model, runtime: Path) -> dict[str, bytes]:
    """What is large, by name, each packed by gzip: networks in eight bits, the vocabulary of texts, and onnxruntime-web, whose
    files lie in `runtime`. FileError where a package is absent, ValueError as `require_web`."""
    require_onnx()
    require_web(model)
    model.to("cpu").eval()
    files = {"vocab.txt": "\n".join(reader_of(model).pieces).encode()}
    with tempfile.TemporaryDirectory() as folder:
        for name, call in calls_of(model).items():
            whole = Path(folder) / f"{name}.onnx"
            write_network(whole, call)
            files[whole.name] = write_int8(whole).read_bytes()
    files |= {name: (runtime / file).read_bytes() for name, file in RUNTIME.items()}
    return {name: gzip.compress(content, 6, mtime=0) for name, content in files.items()}


def write_webapp(
    folder: Path, model: Model, files: Mapping[str, bytes], example: str, *, overwrite: bool = False, largest: float = LARGEST
) -> Path:
    """Writes the folder, whole or not at all, and returns its page.

    files: those of `packed_files`; example: the text that stands there to begin with; largest: bytes of a page that holds the
    files itself. ValueError for a sampler that is more than weights.
    """
    size = sum(4 * len(content) // 3 for content in files.values())
    inside = size < largest
    with new_folder(folder, WEBAPP, overwrite=overwrite, flag="--webapp") as temporary:
        write_atomically(temporary / "index.html", page_of(model, files if inside else {}, files, example))
        if not inside:
            for name, content in files.items():
                write_atomically(temporary / f"{name}.gz", content)
    for name, content in files.items():
        log.info("%-18s %6.1f MB, packed", name, len(content) / 1e6)
    page = folder / "index.html"
    log.info("%s: %s", page, "a page that opens from the disk" if inside else SERVE)
    return page


def page_of(model: Model, inside: Mapping[str, bytes], files: Mapping[str, bytes], example: str) -> str:
    """The page, with those of the files in it that are to be."""
    script = "\n".join((PAGE / name).read_text(encoding="utf-8") for name in SCRIPTS)
    style = (PAGE / "page.css").read_text(encoding="utf-8")
    numbers = model.loop_numbers()
    pose = motion_of(torch.from_numpy(numbers["mean"])[None], model.features, ())
    settings = settings_of(model)
    longest = settings["max_frames"] / model.features.fps
    app: dict[str, Any] = {
        "settings": settings,
        "numbers": {name: values.tolist() for name, values in numbers.items()},
        "networks": [name.removesuffix(".onnx") for name in files if name.endswith(".onnx")],
        "player": viewer_html(pose, title="Motion from a text"),
        "camera": {"still": STILL_RADIUS, "smoothing": SMOOTHING},
        "serve": SERVE,
    }
    scripts, styles = zip((digest(script), digest(style)), page_digests(), strict=True)
    return filled(
        (PAGE / "page.html").read_text(encoding="utf-8"), script=script, style=style, app=script_json(app),
        policy=policy_of(scripts, styles), example=html.escape(example), longest=f"{longest:.4g}",
        usual=f"{min(SECONDS, longest):.4g}", files="\n".join(element(name, content) for name, content in inside.items()),
    )  # fmt: skip


def policy_of(scripts: Sequence[str], styles: Sequence[str]) -> str:
    """What a page with these scripts and styles, by digest, may do: run onnxruntime, and read what lies beside it."""
    words = {"script-src": f"'wasm-unsafe-eval' blob: {quoted(scripts)}", "style-src": quoted(styles), "connect-src": "'self'"}
    return "; ".join(["default-src 'none'", *(f"{name} {value}" for name, value in words.items())])


def quoted(digests: Sequence[str]) -> str:
    """Digests as a policy lists them."""
    return " ".join(f"'{each}'" for each in digests)


def element(name: str, content: bytes) -> str:
    """A file as an element of the page, which no script runs."""
    return f'<script type="application/gzip" id="{name}">{base64.b64encode(content).decode()}</script>'
