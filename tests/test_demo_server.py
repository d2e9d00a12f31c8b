"""The demo as a visitor meets it: over its server and in a real browser."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tests.browser import Browser, find_chromium
from tests.synthetic import bvh_text, raise_hand, walk
from tests.tiny_retrieval import TEXT

ROOT = Path(__file__).resolve().parents[1]
HOSTILE = "a person <img src=x onerror=alert(1)> \"walks\" ${7*7} {{#if x}} '</iframe>"


# ------------------------------------------------------------------------------------------------------- over the server


@pytest.fixture(scope="module")
def server(gallery, tmp_path_factory):
    """(URL, folder of its temporary files) of `python -m sample.demo`, ended as a user would end it."""
    pytest.importorskip("gradio", reason="the demo's server needs gradio: pip install gradio (the extra [demo])")
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("temporary")
    command = [sys.executable, "-m", "sample.demo", "--gallery", str(gallery), "--port", str(port), "--device", "cpu",
               "--max_upload", "0.2"]  # fmt: skip
    environment = os.environ | {"TMPDIR": str(folder), "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    said = ""
    for line in process.stderr:
        said += line
        if "http://localhost" in line:
            break
    else:
        pytest.fail(f"the demo did not start: {said}")
    yield f"http://127.0.0.1:{port}", folder
    process.terminate()
    assert process.wait(30) == 0
    assert "a request failed" not in process.stderr.read()  # nothing that was not foreseen
    assert not list(folder.glob("moveo_demo_*"))  # nothing stays behind


@pytest.fixture(scope="module")
def client(server, tmp_path_factory):
    from gradio_client import Client

    return Client(server[0], verbose=False, download_files=str(tmp_path_factory.mktemp("downloads")))


def ask(client, text, seed):
    return client.predict(text, 0.5, seed, 1, 2.5, "starter", api_name="/generate")


def test_ten_requests_at_once_all_answer_with_their_own_motions(client, server, maker):
    jobs = [client.submit(TEXT, 0.5, seed, 1, 2.5, "starter", api_name="/generate") for seed in range(10)]
    for seed, job in enumerate(jobs):
        page, files = job.result(timeout=120)
        assert "iframe" in str(page)
        assert [Path(file).suffix for file in files] == [".mp4", ".html", ".bvh", ".glb", ".vrma", ".npy"]
        np.testing.assert_allclose(np.load(files[-1]), maker.make(TEXT, 0.5, seed)[0].joints[0], atol=1e-4)
    (requests,) = server[1].glob("moveo_demo_*/requests")
    assert not list(requests.iterdir())  # each request took its folder along


def test_a_search_over_the_server_finds_what_the_function_finds(client, search, tmp_path):
    from gradio_client import handle_file

    page = client.predict(TEXT, 3, "all", api_name="/search_text")
    assert [f">{hit.score:.3f}<" in page for hit in search.by_text(TEXT, 3).hits] == [True] * 3
    np.save(tmp_path / "hand.npy", raise_hand(60).astype(np.float32))
    page = client.predict(handle_file(tmp_path / "hand.npy"), 2, "all", "find out", 20, 0, api_name="/search_file")
    assert page.count("<iframe") == 3 and "The motion searched by" in page


def test_a_prompt_beyond_the_weights_is_told_above_its_motion(client):
    shown, _ = ask(client, "someone jumps over a puddle and sits down on a chair", 1)
    assert shown.startswith('<p class="said">') and "lies outside what these weights know" in shown.partition("<iframe")[0]
    assert "lies outside" not in ask(client, "a person waves with both hands", 1)[0]


def test_errors_reach_the_visitor_as_one_line(client, server, tmp_path):
    from gradio_client import handle_file

    with pytest.raises(Exception, match=r"^the prompt is empty: say what"):
        ask(client, "  ", 1)
    with pytest.raises(Exception, match="not in the list of choices"):
        client.predict(TEXT, 1, 1, 1, 2, "../etc", api_name="/generate")
    (tmp_path / "a.bvh").write_text("nonsense")
    with pytest.raises(Exception, match=r"a\.bvh") as refused:
        client.predict(handle_file(tmp_path / "a.bvh"), 2, "all", "find out", 20, 0, api_name="/search_file")
    assert "moveo_demo" not in str(refused.value) and "Traceback" not in str(refused.value)
    (tmp_path / "large.bvh").write_text("x" * 300_000)
    with pytest.raises(Exception, match=r"413|size|large"):
        client.predict(handle_file(tmp_path / "large.bvh"), 2, "all", "find out", 20, 0, api_name="/search_file")


def test_a_file_made_to_take_long_delays_no_other_visitor(client, tmp_path):
    """Fifty thousand spaces once froze all for 17 seconds, a hierarchy in one line for two minutes."""
    from gradio_client import handle_file

    text = bvh_text(walk(20))
    joints = "JOINT a { OFFSET 0 0 0 CHANNELS 3 Zrotation Xrotation Yrotation " * 2000
    hostile = {"spaces": text.replace("Frame Time:", "Frame Time:" + " " * 50_000 + "x"),
               "deep": f"HIERARCHY ROOT r {{ OFFSET 0 0 0 {joints}", "zeros": text + " 0" * 60_000}  # fmt: skip
    for name, content in hostile.items():
        (tmp_path / f"{name}.bvh").write_text(content)
    start = time.monotonic()
    jobs = [client.submit(handle_file(tmp_path / f"{name}.bvh"), 2, "all", "find out", 20, 0, api_name="/search_file")
            for name in hostile]  # fmt: skip
    assert "<iframe" in client.predict(TEXT, 1, "all", api_name="/search_text")
    assert time.monotonic() - start < 20
    for job in jobs:
        with pytest.raises(Exception, match=r"\.bvh") as refused:
            job.result(timeout=90)
        assert "Traceback" not in str(refused.value)


def test_the_server_answers_to_its_own_names_alone(server):
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    page = f"{server[0]}/config"
    assert json.load(urlopen(Request(page, headers={"Host": "localhost"}), timeout=20))
    for headers, body in (({"Host": "evil.example"}, None), ({"Origin": "http://evil.example"}, b"{}")):
        with pytest.raises(HTTPError, match="403"):
            urlopen(Request(f"{server[0]}/gradio_api/queue/join" if body else page, body, headers), timeout=20)
    for body in (b"{", b"[]", b'{"data": 1}', b"\xff"):
        with pytest.raises(HTTPError) as refused:
            headers = {"Content-Type": "application/json"}
            urlopen(Request(f"{server[0]}/gradio_api/call/search_text", body, headers), timeout=20)
        assert b"Traceback" not in refused.value.read()


@pytest.mark.parametrize("path", ["/etc/passwd", "http://192.0.2.1/a.bvh", str(ROOT / "pyproject.toml")])
def test_a_visitor_cannot_make_the_server_read_what_was_not_uploaded(server, path):
    """By the bare HTTP interface, where a path can be claimed."""
    from urllib.error import HTTPError
    from urllib.request import Request, urlopen

    file = {"path": path, "meta": {"_type": "gradio.FileData"}, "orig_name": "a.bvh"}
    body = json.dumps({"data": [file, 2, "all", "find out", 20, 0]}).encode()
    call = f"{server[0]}/gradio_api/call/search_file"
    event = json.load(urlopen(Request(call, body, {"Content-Type": "application/json"}), timeout=20))["event_id"]
    start = time.monotonic()
    answer = urlopen(f"{call}/{event}", timeout=20).read().decode()
    assert "event: error" in answer and time.monotonic() - start < 5
    with pytest.raises(HTTPError):
        urlopen(f"{server[0]}/gradio_api/file={path}", timeout=20)


# ---------------------------------------------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def chromium(server, tmp_path_factory):
    if find_chromium() is None:
        pytest.skip("no Chromium: set CHROMIUM to its path or install one (Debian: chromium-headless-shell)")
    with Browser(tmp_path_factory.mktemp("profile"), (1200, 900)) as browser:
        yield browser


def until(browser, condition: str, seconds: float = 60.0) -> None:
    start = time.monotonic()
    while not browser.evaluate(condition):
        assert time.monotonic() - start < seconds, f"never: {condition}"
        browser.rest(0.2)


def press(browser, name: str) -> None:
    """A real click on the button of that name in the tab that is open."""
    buttons = "[...document.querySelectorAll('button.primary, button[role=tab]')].filter(b => b.offsetParent)"
    browser.evaluate(f"{buttons}.filter(b => b.textContent.trim() === {json.dumps(name)}).at(-1).id = 'pressed-now'")
    browser.evaluate("document.getElementById('pressed-now').scrollIntoView({block: 'center'})")
    browser.click("#pressed-now")
    browser.evaluate("document.getElementById('pressed-now').removeAttribute('id')")


def write(browser, words: str) -> None:
    box = "[...document.querySelectorAll('textarea')].find(e => e.offsetParent)"
    browser.evaluate(f"(box => {{ box.focus(); box.select(); }})({box})")
    browser.send("Input.insertText", text=words)
    browser.rest(0.3)


def test_a_visitor_types_clicks_watches_and_downloads(chromium, server, tmp_path):
    browser, (url, _) = chromium, server
    browser.send("Page.navigate", url=url)
    until(browser, "[...document.querySelectorAll('textarea')].some(e => e.offsetParent)")
    browser.rest(0.5)
    write(browser, "a person walks")
    press(browser, "Search")
    until(browser, "document.querySelectorAll('.hits iframe').length >= 3")
    assert browser.evaluate("[...document.querySelectorAll('.hits .score')].every(e => /^[01]\\.\\d{3}$/.test(e.textContent))")
    press(browser, "Generate")
    until(browser, "[...document.querySelectorAll('button.primary')].some(b => b.offsetParent && /Generate/.test(b.textContent))")
    write(browser, HOSTILE)
    press(browser, "Generate")
    until(browser, "document.querySelectorAll('.made iframe').length === 1")
    assert browser.evaluate("document.querySelector('.made iframe').title") == HOSTILE
    assert plays(browser, ".made iframe", tmp_path)
    until(browser, "document.querySelectorAll('a[download]').length === 6")
    sizes = browser.evaluate("Promise.all([...document.querySelectorAll('a[download]')].map("
                             "a => fetch(a.href).then(r => r.blob()).then(b => b.size)))")  # fmt: skip
    assert min(sizes) > 5000
    write(browser, "...")
    press(browser, "Generate")
    until(browser, "/the prompt is empty/.test(document.body.textContent)")
    assert not browser.errors
    assert browser.requests and all(request.startswith((url, "data:", "blob:", "about:")) for request in browser.requests)


def plays(browser, selector: str, tmp_path) -> bool:
    """Whether the picture of a frame changes within a second."""
    import matplotlib.image

    browser.evaluate(f"document.querySelector({json.dumps(selector)}).scrollIntoView()")
    browser.rest(1.0)
    pictures = []
    for i in range(2):
        pictures.append(matplotlib.image.imread(browser.screenshot(tmp_path / f"{i}.png"))[..., :3])
        browser.rest(0.7)
    return (np.abs(pictures[1] - pictures[0]).max(-1) > 0.2).sum() > 100
