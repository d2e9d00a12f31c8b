"""Wishes put into edits by a model: asked at a server of our own on this machine, which answers as real ones do, and worse."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from data_loaders.edit_grammar import parse_edits
from sample.edit_wishes import KEY, Endpoint, edits_from_wish

SECRET = "sk-secret-123"


class Server(HTTPServer):
    """Gives its `answers` one after the other: a text that the model says, or (status, bytes, headers)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: list = []
        self.asked: list[tuple[str, dict, str | None]] = []

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(f"http://127.0.0.1:{self.server_port}/v1", "some-model", seconds=5)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body, self.headers["Authorization"]))
        answer = self.server.answers.pop(0)
        if isinstance(answer, str):
            message = {"role": "assistant", "content": answer}
            answer = 200, json.dumps({"id": "1", "choices": [{"index": 0, "message": message}]}).encode(), {}
        status, content, headers = answer
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *given: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.delenv(KEY, raising=False)
    made = Server()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield made
    made.shutdown()
    made.server_close()


def test_a_wish_becomes_edits_of_the_grammar(server, monkeypatch):
    monkeypatch.setenv(KEY, SECRET)
    server.answers = ["```\nraise the left arm fully between 2s and 4s; slower\n```"]
    edits = edits_from_wish("let him wave slowly with his left", server.endpoint, 5.8)
    assert len(parse_edits(edits)) == 2
    ((path, body, authorisation),) = server.asked
    assert path == "/v1/chat/completions" and body["model"] == "some-model" and authorisation == f"Bearer {SECRET}"
    assert "between 2s and 4s" in body["messages"][0]["content"]  # the grammar
    assert "5.8 seconds" in body["messages"][1]["content"] and "wave slowly" in body["messages"][1]["content"]


def test_an_answer_that_is_no_edit_is_sent_back_once_with_what_is_wrong(server):
    server.answers = ["raise the left wing", "raise the left arm"]
    assert edits_from_wish("flap", server.endpoint, 4) == "raise the left arm"
    assert "'wing' is not understood" in server.asked[1][1]["messages"][-1]["content"] and server.asked[0][2] is None
    server.answers = ["import os; os.remove('x')", "none"]
    with pytest.raises(ValueError, match=r"found no edit for 'flap': 'none'"):
        edits_from_wish("flap", server.endpoint, 4)


@pytest.mark.parametrize(("answer", "said"), [
    ((500, b"", {}), "answered 500"), ((401, SECRET.encode(), {}), f"answered 401 \\(the key is read from {KEY}\\)"),
    ((302, b"", {"Location": "http://127.0.0.1:9/"}), "answered 302"), ((200, b"<html>", {}), "HTML"),
    ((200, b'{"choices": []}', {}), "answered nothing"), ((200, b'{"choices": 3}', {}), "choices: expected"),
    ((200, b'{"choices": [{"message": {"content": null}}]}', {}), "answered nothing"), ((200, b"x" * (1 << 21), {}), "more than"),
])  # fmt: skip
def test_an_endpoint_that_answers_otherwise_is_named_without_the_key(server, answer, said, monkeypatch):
    monkeypatch.setenv(KEY, SECRET)
    server.answers = [answer]
    with pytest.raises(ValueError, match=said) as error:
        edits_from_wish("wave", server.endpoint, 4)
    assert "127.0.0.1" in str(error.value) and SECRET not in str(error.value) and len(server.asked) == 1


def test_where_nobody_answers_and_what_is_no_endpoint_is_said(monkeypatch):
    monkeypatch.delenv(KEY, raising=False)
    with pytest.raises(ValueError, match="does not answer"):
        edits_from_wish("wave", Endpoint("http://127.0.0.1:9/v1", "m", 2), 4)
    for url, said in (("ftp://host", "expected such as https"), ("host/v1", "expected such as https"),
                      (f"https://me:{SECRET}@host/v1", KEY), (f"https://host/v1?key={SECRET}", KEY)):  # fmt: skip
        with pytest.raises(ValueError, match=said) as error:
            Endpoint(url, "m")
        assert SECRET not in str(error.value)


def test_the_key_is_not_sent_over_an_open_line_nor_if_it_is_none(server, monkeypatch):
    monkeypatch.setenv(KEY, SECRET)
    with pytest.raises(ValueError, match="not https") as error:
        edits_from_wish("wave", Endpoint("http://example.org/v1", "m"), 4)
    assert SECRET not in str(error.value)
    monkeypatch.setenv(KEY, f"{SECRET}\r\nHost: x")
    with pytest.raises(ValueError, match="is no key") as error:
        edits_from_wish("wave", server.endpoint, 4)
    assert SECRET not in str(error.value) and not server.asked


@pytest.mark.parametrize("url", ["http://[bad", "http://localhost:99999", "http://localhost:1/\u00e9", "http://local host/v1"])
def test_what_is_no_address_is_said_before_anything_is_asked(url):
    with pytest.raises(ValueError, match=r"--endpoint 'http://.*: no address, expected such as https://host/v1"):
        Endpoint(url, "some")
