"""Who may ask the demo's server, and where what visitors send lies: names and pages of its own, a folder that does not stay.

A page of any site can send requests to this machine from the browser of whoever looks at it, and, by a name that it lets point
here, read the answers (DNS rebinding). So the server answers to its own names alone, and to posts of its own pages alone.
"""

import ipaddress
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

MOST_UPLOADS = 100
LOCAL_NAMES = ("localhost", "127.0.0.1", "[::1]")
PREFIX, OWNER = "moveo_demo_", "owner.lock"
Scope = MutableMapping[str, Any]


class Guard:
    """ASGI middleware that refuses, in one line, foreign names, posts of foreign pages, and bodies of more than `most` bytes."""

    def __init__(self, app: Callable[..., Awaitable[None]], host: str, most: int, uploads: Path | None = None):
        """host: what the server listens at; with 0.0.0.0 also any address and this machine's name are its own. uploads: a
        folder that takes in no more than MOST_UPLOADS times `most` bytes at once."""
        self.app, self.most, self.uploads = app, most, uploads
        self.names = {*LOCAL_NAMES, host.lower()}
        self.any_address = host == "0.0.0.0"
        if self.any_address:
            self.names |= {socket.gethostname().lower(), socket.getfqdn().lower()}

    async def __call__(self, scope: Scope, receive: Callable, send: Callable) -> None:
        refused = self.refusal(scope) if scope["type"] in ("http", "websocket") else None
        if refused is None:
            await self.app(scope, receive, send)
            return
        status, line = refused
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": f"{line}\n".encode()})

    def refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Status and words for a request that is not answered."""
        headers: dict[str, list[str]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name.decode("latin-1").lower(), []).append(value.decode("latin-1"))
        hosts = headers.get("host", [])
        if len(hosts) != 1 or not self.is_own(hosts[0]):
            return 403, "this server does not answer to that name: open it by the address it was started with (--host)"
        if scope.get("method", "GET") in ("GET", "HEAD", "OPTIONS") and scope["type"] == "http":
            return None
        origins = [origin.partition("://")[2].lower() for origin in headers.get("origin", [])]
        if any(origin != hosts[0].lower() for origin in origins) or "cross-site" in headers.get("sec-fetch-site", []):
            return 403, "this server takes nothing from pages of other sites"
        lengths = headers.get("content-length", [])
        if "transfer-encoding" in headers or not all(re.fullmatch("[0-9]{1,18}", length) for length in lengths):
            return 411, "the length of what is sent must be said first"
        if any(int(length) > self.most for length in lengths):
            return 413, f"too large: at most {self.most / 1e6:.3g} MB are taken"
        if self.uploads is not None and scope.get("path", "").endswith("/upload") and self._held() > MOST_UPLOADS * self.most:
            return 507, "no room for more files now: they go after an hour, come back then"
        return None

    def _held(self) -> int:
        """Bytes of the files that were sent and are still here."""
        return sum(path.stat().st_size for path in self.uploads.rglob("*") if path.is_file())

    def is_own(self, host: str) -> bool:
        """Whether a Host header names this server."""
        match = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]]+)(:[0-9]{1,5})?", host)
        if match is None:
            return False
        name = match[1].lower()
        return name in self.names or (self.any_address and _is_address(name.strip("[]")))


def _is_address(name: str) -> bool:
    """An address in numbers: nobody can let it point elsewhere, as they can a name."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A temporary folder that goes when the demo ends. Those of demos that were killed go now."""
    remove_left()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    try:
        lock = _locked(folder)
        yield folder
        if lock is not None:
            lock.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_left() -> None:
    """Removes the folders of demos that have ended without doing so: ours, with a lock that nobody holds any more."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        return
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            with open(folder / OWNER, "rb+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:  # no lock: not made here; or held: its demo runs
            continue


def _locked(folder: Path) -> Any:
    """The open lock of a folder, which the system gives back when this process ends, however that ends."""
    try:
        import fcntl
    except ImportError:
        return None
    new = folder / f"{OWNER}.new"  # locked before it has the name by which others look for it
    lock = open(new, "wb")  # noqa: SIM115 (held as long as the folder)
    fcntl.flock(lock, fcntl.LOCK_EX)
    new.rename(folder / OWNER)
    return lock
