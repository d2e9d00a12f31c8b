"""The page that makes motion from a free text in the browser: its scripts do what ours do, and it works in Chromium.

onnxruntime-web is looked for in tests/node/node_modules (npm install --prefix tests/node), Chromium as in tests/browser.py.
"""

import http.server
import json
import logging
import shutil
import subprocess
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from model.checkpoints import save_pretrained
from model.text_towers import cut, load_text_encoder, tokenizer_of
from protos.reading import FileError
from tests.browser import Browser, find_chromium
from tests.test_compose import latent_of, lsremgm_of
from tests.test_onnx import draws_of, exported, needs_onnx
from train.export import ExportOptions, run
from train.webapp_files import PAGE, SCRIPTS, find_runtime, packed_files, require_web, write_webapp

NODE = Path(__file__).parent / "node"
TEXTS = (
    "a person walks forward", "A man, who's *very* tired;\tjumps-over 3 hurdles!", "  übermäßig naïve café ΣΑΣ İstanbul ",
    "左手 supercalifragilistic", "", "x" * 100, "x" * 101, "a " * 300, "a [MASK] waves[SEP]",
    "\u2603 \U0001f600 \u200b\u00ad\x00\ufffd$5<6^7`8~|9",
    "한국어 ｆｕｌｌ　ｗｉｄｔｈ ﬁne", "don't… “stop” – now", "ångström\u0301 \u00a0tab\r\nline",
)  # fmt: skip
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
needs_runtime = pytest.mark.skipif(
    not (NODE / "node_modules" / "onnxruntime-web").is_dir(),
    reason="onnxruntime-web is not installed: npm install --prefix tests/node",
)
needs_chromium = pytest.mark.skipif(find_chromium() is None, reason="Chromium is not installed: see tests/browser.py")


def in_node(**asked):
    """What tests/node/webapp.mjs answers."""
    asked["scripts"] = [str(PAGE / name) for name in SCRIPTS[:2]]
    done = subprocess.run(["node", str(NODE / "webapp.mjs")], input=json.dumps(asked), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_node
def test_the_page_cuts_texts_into_the_pieces_that_the_encoder_was_trained_on(tmp_path):
    reader = load_text_encoder("minilm").tower.reader
    (tmp_path / "vocab.txt").write_text("\n".join(reader.pieces), encoding="utf-8")
    found = in_node(vocabulary=str(tmp_path / "vocab.txt"), maxTokens=reader.max_tokens, texts=TEXTS)
    tokenizer = tokenizer_of("minilm")
    for text, ids in zip(TEXTS, found, strict=True):
        assert ids == cut(tokenizer.encode(text).ids, 256)[0], text


@needs_onnx
@needs_node
@needs_runtime
@pytest.mark.parametrize("make", [
    partial(latent_of, smoothing=1.2), partial(lsremgm_of, sampler="ddpm", context_len=4, pred_len=8, guidance_scale=1.0),
], ids=["in latents, with guidance", "piece by piece, with noise"])  # fmt: skip
def test_the_page_makes_the_joints_of_the_example(tmp_path, make):
    example, sampler = exported(make(), tmp_path)
    noise, expected = [], []
    texts, frames = ["someone hops on one foot", "a person turns"], [40, 21]
    for seed, (text, length) in enumerate(zip(texts, frames, strict=True)):
        drawn, draw = [], draws_of(seed)

        def kept(shape, drawn=drawn, draw=draw):
            drawn.append(draw(shape))
            return drawn[-1]

        expected.append(example.joints_of(sampler.features(text, length, kept), **sampler.settings["body"]))
        noise.append([each.ravel().tolist() for each in drawn])
    made = in_node(
        vocabulary=str(tmp_path / "onnx" / "vocab.txt"), maxTokens=sampler.settings["text"]["max_tokens"], texts=texts,
        runtime=str(find_runtime(NODE)), folder=str(tmp_path / "onnx"), networks=list(sampler.networks), frames=frames,
        noise=noise, settings=sampler.settings, numbers={name: values.tolist() for name, values in sampler.numbers.items()},
    )  # fmt: skip
    for ours, theirs in zip(made, expected, strict=True):
        assert np.ptp(theirs) > 0.1
        np.testing.assert_allclose(np.reshape(ours, theirs.shape), theirs, atol=1e-3)


@pytest.fixture(scope="module")
def files():
    """A tiny model, and the files of its page."""
    model = latent_of()
    return model, packed_files(model, find_runtime(NODE))


MOVES = """(async () => {
  const until = async (there) => { while (!there()) await new Promise((done) => setTimeout(done, 50)); };
  await until(() => !$("make").disabled);
  const player = () => $("player").contentWindow.viewer;
  await until(() => player().state().frame > 2);
  const canvas = $("player").contentDocument.querySelector("canvas");
  const places = [player().joint(0, 0, 0, 0), player().joint(0, 0, 30, 15)];
  return [$("told").textContent, canvas.width, canvas.getAttribute("aria-label"), ...places];
})()"""


def asked_for(browser: Browser, text: str):
    """What the page shows when somebody has typed a text and pressed the button."""
    browser.evaluate("$('text').value = ''; $('text').focus(); $('seconds').value = 2; $('seed').value = 5")
    browser.send("Input.insertText", text=text)
    browser.click("#make")
    return browser.evaluate(MOVES)


@needs_onnx
@needs_runtime
@needs_chromium
def test_somebody_types_presses_and_watches(tmp_path, files, caplog):
    model, packed = files
    with caplog.at_level(logging.INFO):
        page = write_webapp(tmp_path / "page", model, packed, 'a "person" <walks>')
    assert "text_encoder.onnx" in caplog.text and "opens from the disk" in caplog.text
    assert {path.name for path in page.parent.iterdir()} == {"index.html", "manifest.json"}
    with Browser(tmp_path / "profile") as browser:
        browser.open(page)
        assert browser.evaluate("$('text').value") == 'a "person" <walks>'
        told, width, label, start, later = asked_for(browser, "a person </script> jumps")
        browser.screenshot(tmp_path / "page.png")
        assert told.startswith("40 frames in") and told.endswith("seed 5") and width > 100 and "</script> jumps" in label
        assert np.isfinite([start, later]).all() and start != later
        assert asked_for(browser, "a person </script> jumps")[4] == later
        assert asked_for(browser, "somebody kneels")[4] != later
        assert browser.errors == []
        assert all(url.startswith(("file:", "blob:", "about:", "data:")) for url in browser.requests)


@needs_onnx
@needs_runtime
@needs_chromium
def test_a_page_too_large_for_one_file_is_served(tmp_path, files):
    model, packed = files
    page = write_webapp(tmp_path / "page", model, packed, "a person walks", largest=1000)
    assert {f"{name}.gz" for name in packed} < {path.name for path in page.parent.iterdir()}
    served = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(http.server.SimpleHTTPRequestHandler, directory=str(page.parent)))  # fmt: skip
    threading.Thread(target=served.serve_forever, daemon=True).start()
    try:
        with Browser(tmp_path / "profile") as browser:
            browser.open(page)
            assert "http.server --bind 127.0.0.1" in browser.evaluate(
                "(async () => { await opening.catch(() => {}); return $('told').textContent; })()")  # fmt: skip
            browser.send("Page.navigate", url=f"http://127.0.0.1:{served.server_port}/index.html")
            browser.rest(1)
            assert asked_for(browser, "a person jumps")[0].startswith("40 frames in")
            assert browser.errors == []
    finally:
        served.shutdown()


def test_what_no_page_can_be_made_of_is_said_in_a_line(tmp_path):
    with pytest.raises(FileError, match=r"onnxruntime-web.*is not in .*: npm install --prefix save/npm onnxruntime-web@[\d.]+$"):
        find_runtime(tmp_path)
    save_pretrained(tmp_path / "model", latent_of())
    with pytest.raises(FileError, match="npm install"):
        run(ExportOptions(checkpoint=tmp_path / "model", webapp=tmp_path / "page", onnxruntime_web=tmp_path))
    with pytest.raises(FileError, match=r"one inside the other.*give another --webapp"):
        run(ExportOptions(checkpoint=tmp_path / "model", webapp=tmp_path / "model" / "page"))
    assert not (tmp_path / "page").exists()
    for model, why in (
        (latent_of().autoencoder, "kind motion_autoencoder"),
        (lsremgm_of(condition="action", num_actions=3), "kind lsremgm without texts"),
        (lsremgm_of(text_encoder="clip-b32", text_dim=512), "clip"),
    ):
        with pytest.raises((ValueError, FileError), match=why):
            require_web(model)
