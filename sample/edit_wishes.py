"""A wish in any words, put into the grammar of edits by a language model: any endpoint that speaks OpenAI's chat completions.

What comes back is text that `parse_edits` must understand, and nothing else: it can neither name a file nor run anything. The key
is taken from the environment alone; it is sent to the endpoint's own host, never over an open line, and stands in no message or
file.
"""

import http.client
import json
import os
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass

from data_loaders import edit_grammar
from data_loaders.edit_grammar import parse_edits
from protos.files import shown
from protos.reading import decode_json

KEY = "OPENAI_API_KEY"  # of the environment
LONGEST_ANSWER = 1 << 20  # bytes
TRIES = 2
LOOPBACK = ("localhost", "127.0.0.1", "::1")
INSTRUCTION = (
    "You put a wish about a human motion into edits of this grammar. Answer with the edits alone, in one line, with semicolons "
    "between them. Where the wish asks for nothing that the grammar can say, answer: none.\n\n"
)


@dataclass(frozen=True)
class Endpoint:
    """Where the model is asked: the address before /chat/completions, the model's name, seconds to wait."""

    url: str
    model: str
    seconds: float = 60.0

    def __post_init__(self) -> None:
        try:
            parts = urllib.parse.urlsplit(self.url)
            whole = self.url.isascii() and self.url.isprintable() and " " not in self.url and parts.port != 0
        except ValueError:  # of brackets, or a port
            raise ValueError(f"--endpoint {shown(self.url)}: no address, expected such as https://host/v1") from None
        if not whole:
            raise ValueError(f"--endpoint {shown(self.url)}: no address, expected such as https://host/v1, letters as %C3%A9")
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{shown(parts.hostname or 'the address')} of the endpoint: expected such as https://host/v1")
        if parts.username or parts.password or parts.query:
            raise ValueError(f"the endpoint at {shown(parts.hostname)}: a key belongs into {KEY}, not into its address")


@dataclass
class _Message:
    content: str | None = None


@dataclass
class _Choice:
    message: _Message


@dataclass
class _Answer:
    choices: list[_Choice]


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Another host would be sent the key."""

    def redirect_request(self, *given: object) -> None:
        return None


def edits_from_wish(wish: str, endpoint: Endpoint, clip_seconds: float) -> str:
    """Edits, as `parse_edits` understands them, for a wish about a clip of so many seconds. An answer that is none is sent back
    once with what is wrong. ValueError where that fails too, where the endpoint does not answer, or its key cannot be used."""
    messages = [
        {"role": "system", "content": INSTRUCTION + (edit_grammar.__doc__ or "")},
        {"role": "user", "content": f"The motion has {clip_seconds:.1f} seconds. The wish: {wish}"},
    ]
    problem = ""
    for _ in range(TRIES):
        answer = _ask(endpoint, messages).strip().strip("`").strip()
        try:
            parse_edits(answer)
        except ValueError as error:
            problem = str(error)
            messages += [{"role": "assistant", "content": answer},
                         {"role": "user", "content": f"That is no edit: {problem}. Answer with edits alone."}]  # fmt: skip
        else:
            return answer
    raise ValueError(f"the model found no edit for {shown(wish)}: {problem}")


def _ask(endpoint: Endpoint, messages: list[dict[str, str]]) -> str:
    """The text of the first answer."""
    host = urllib.parse.urlsplit(endpoint.url).hostname
    request = urllib.request.Request(
        endpoint.url.rstrip("/") + "/chat/completions",
        data=json.dumps({"model": endpoint.model, "messages": messages, "temperature": 0}).encode(),
        headers={"Content-Type": "application/json", **_authorisation(endpoint)},
    )
    try:
        with urllib.request.build_opener(_NoRedirects).open(request, timeout=endpoint.seconds) as answer:
            content = answer.read(LONGEST_ANSWER + 1)
    except urllib.error.HTTPError as error:
        hint = f" (the key is read from {KEY})" if error.code in (401, 403) else ""
        raise ValueError(f"the endpoint at {host} answered {error.code}{hint}") from None
    except (OSError, http.client.HTTPException) as error:
        raise ValueError(f"the endpoint at {host} does not answer: {type(error).__name__}") from None
    if len(content) > LONGEST_ANSWER:
        raise ValueError(f"the endpoint at {host} answered more than {LONGEST_ANSWER} bytes")
    choices = decode_json(content, _Answer, f"the answer of {host}").choices
    if not choices or not choices[0].message.content:
        raise ValueError(f"the endpoint at {host} answered nothing")
    return choices[0].message.content


def _authorisation(endpoint: Endpoint) -> dict[str, str]:
    """The key, where the environment has one."""
    key = os.environ.get(KEY, "").strip()
    if not key:
        return {}
    if not (key.isascii() and key.isprintable()) or " " in key:
        raise ValueError(f"{KEY} is no key: it holds blanks or other characters that keys have not")
    parts = urllib.parse.urlsplit(endpoint.url)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise ValueError(f"the endpoint at {parts.hostname} is not https: {KEY} is not sent to it; unset it, or use https")
    return {"Authorization": f"Bearer {key}"}
