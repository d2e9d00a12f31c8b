"""Whom the demo's server answers, and what a killed demo leaves."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sample.demo_guard import Guard, remove_left, scratch_folder

ROOT = Path(__file__).resolve().parents[1]


def status(listens: str = "127.0.0.1", /, method: str = "GET", **headers: str) -> int:
    """Of a request to a server that listens at an address; 200 where it is let through."""
    said = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message):
        said.append(message)

    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    asyncio.run(Guard(app, listens, 1000)({"type": "http", "method": method, "headers": pairs}, None, send))
    assert all(b"Traceback" not in message.get("body", b"") for message in said)
    return said[0]["status"]


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST:7860", "127.0.0.1:7860", "[::1]:7860"])
def test_own_names_are_answered(name):
    assert status(host=name) == 200 == status("studio.local", host="studio.local:7860")


@pytest.mark.parametrize("name", ["evil.example", "evil.example:7860", "127.0.0.1.evil.example", "192.168.0.7", "localhost@evil",
                                  "localhost:7860:1", "", "[::1].evil", "xn--localhost"])  # fmt: skip
def test_foreign_names_are_not(name):
    assert status(host=name) == 403


def test_a_server_for_other_machines_answers_to_addresses_but_to_no_foreign_name():
    assert status("0.0.0.0", host="192.168.0.7:7860") == status("0.0.0.0", host="[fe80::1]:7860") == 200
    assert status("0.0.0.0", host="evil.example:7860") == 403


def test_posts_come_from_own_pages_and_say_how_long_they_are():
    own = {"method": "POST", "host": "localhost:7860"}
    assert status(**own) == status(**own, origin="http://localhost:7860", content_length="1000") == 200
    for origin in ("http://evil.example", "null", "http://localhost:8000"):
        assert status(**own, origin=origin) == 403
    assert status(**own, sec_fetch_site="cross-site") == 403
    assert status(**own, content_length="1001") == 413
    assert status(**own, transfer_encoding="chunked") == status(**own, content_length="-1") == 411


def test_uploads_have_room_for_so_many_and_no_more(tmp_path):
    guard = Guard(None, "127.0.0.1", 1000, tmp_path)
    post = {"type": "http", "method": "POST", "path": "/gradio_api/upload", "headers": [(b"host", b"localhost")]}
    (tmp_path / "a.bvh").write_bytes(b"x" * 100_000)
    assert guard.refusal(post) is None
    (tmp_path / "b.bvh").write_bytes(b"x")
    assert guard.refusal(post)[0] == 507 and guard.refusal(post | {"path": "/gradio_api/queue/join"}) is None


def test_requests_without_a_name_or_with_two_are_not_answered():
    assert status() == 403
    both = {"type": "http", "method": "GET", "headers": [(b"host", b"localhost"), (b"host", b"evil.example")]}
    assert Guard(None, "127.0.0.1", 1000).refusal(both)[0] == 403


@pytest.mark.skipif(os.name == "nt", reason="there are no locks of this kind on Windows")
def test_what_a_killed_demo_left_goes_at_the_next_start_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    code = ("import time; from sample.demo_guard import scratch_folder\n"
            "with scratch_folder() as folder:\n    (folder / 'uploads').mkdir(); print(folder, flush=True); time.sleep(60)")
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    killed, alive = (subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
                     for _ in range(2))  # fmt: skip
    left, running = (Path(process.stdout.readline().strip()) for process in (killed, alive))
    killed.kill()
    killed.wait()
    mine = tmp_path / "moveo_demo_mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")
    assert left.is_dir()
    with scratch_folder() as own:
        assert own.is_dir() and not left.exists() and running.is_dir() and (mine / "thesis.txt").is_file()
    assert not own.exists()
    alive.kill()
    alive.wait()
    remove_left()
    assert not running.exists() and mine.is_dir()
