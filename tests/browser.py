"""A headless Chromium driven through its debugging pipe, with nothing but the standard library.

Chromium is found in the environment variable CHROMIUM or on PATH (Debian: apt-get install chromium-headless-shell).
"""

import base64
import json
import os
import select
import shutil
import subprocess
from pathlib import Path

NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "chrome")
KEYS = {" ": "Space", "ArrowLeft": "ArrowLeft", "ArrowRight": "ArrowRight", "Home": "Home", "End": "End"}


def find_chromium() -> str | None:
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


class Browser:
    """One tab. `errors` collects exceptions, console errors and refusals; `requests` the URLs asked for."""

    def __init__(self, profile: Path, size: tuple[int, int] = (960, 640)):
        (to_read, self.to), (self.back, to_write) = os.pipe(), os.pipe()

        def plumb() -> None:  # Chromium reads commands from 3 and answers on 4
            ends = os.dup(to_read), os.dup(to_write)
            os.dup2(ends[0], 3)
            os.dup2(ends[1], 4)

        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={profile}"]
        self.process = subprocess.Popen(
            [find_chromium(), *flags, "--remote-debugging-pipe", f"--window-size={size[0]},{size[1]}", "about:blank"],
            preexec_fn=plumb, pass_fds=(3, 4), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        os.close(to_read)
        os.close(to_write)
        self.buffer, self.count, self.session = b"", 0, None
        self.events, self.errors, self.requests = [], [], []
        target = self.send("Target.createTarget", url="about:blank", width=size[0], height=size[1])["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_) -> None:
        self.process.terminate()
        self.process.wait(20)
        os.close(self.to)
        os.close(self.back)

    def send(self, method: str, **parameters) -> dict:
        self.count += 1
        message = {"id": self.count, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive(30)
            if answer.get("id") == self.count:
                if "error" in answer:
                    raise RuntimeError(f"{method}: {answer['error']['message']}")
                return answer["result"]

    def _receive(self, patience: float) -> dict:
        while b"\0" not in self.buffer:
            if not select.select([self.back], [], [], patience)[0]:
                raise TimeoutError("Chromium does not answer")
            part = os.read(self.back, 1 << 20)
            if not part:
                raise RuntimeError(f"Chromium ended with status {self.process.wait(5)}")
            self.buffer += part
        line, self.buffer = self.buffer.split(b"\0", 1)
        message = json.loads(line)
        self._note(message.get("method"), message.get("params", {}))
        return message

    def _note(self, event: str | None, what: dict) -> None:
        self.events.append(event)
        if event == "Runtime.exceptionThrown":
            details = what["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description") or details["text"])
        elif event == "Log.entryAdded" and what["entry"]["level"] == "error":
            self.errors.append(what["entry"]["text"])
        elif event == "Runtime.consoleAPICalled" and what["type"] in ("error", "assert"):
            self.errors.append(str(what["args"]))
        elif event == "Network.requestWillBeSent":
            self.requests.append(what["request"]["url"])

    def open(self, path: Path) -> None:
        self.events.clear()
        self.send("Page.navigate", url=Path(path).resolve().as_uri())
        while "Page.loadEventFired" not in self.events:
            self._receive(30)

    def evaluate(self, expression: str):
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(answer["exceptionDetails"]["exception"]["description"])
        return answer["result"].get("value")

    def screenshot(self, path: Path) -> Path:
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"]))
        return path

    def media(self, **features: str) -> None:
        """Settings of the reader's system, such as prefers_color_scheme="dark"."""
        pairs = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.send("Emulation.setEmulatedMedia", features=pairs)

    def mouse(self, kind: str, x: float, y: float, **more) -> None:
        self.send("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **more)

    def click(self, selector: str) -> None:
        box = f"document.querySelector({json.dumps(selector)}).getBoundingClientRect()"
        x, y = self.evaluate(f"(b => [b.x + b.width / 2, b.y + b.height / 2])({box})")
        for kind in ("Pressed", "Released"):
            self.mouse(kind, x, y, button="left", clickCount=1)

    def drag(self, start: tuple[float, float], by: tuple[float, float], button: str = "left", steps: int = 5) -> None:
        held = {"button": button, "buttons": {"left": 1, "right": 2}[button]}
        self.mouse("Pressed", *start, clickCount=1, **held)
        for i in range(1, steps + 1):
            self.mouse("Moved", start[0] + by[0] * i / steps, start[1] + by[1] * i / steps, **held)
        self.mouse("Released", start[0] + by[0], start[1] + by[1], button=button, clickCount=1)

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        fingers = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        self.send("Input.dispatchTouchEvent", type=f"touch{kind}", touchPoints=fingers)

    def key(self, key: str, shift: bool = False) -> None:
        code = KEYS.get(key, f"Key{key.upper()}")
        for kind in ("keyDown", "keyUp"):
            text = {"text": key} if len(key) == 1 and kind == "keyDown" else {}
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=code, modifiers=8 if shift else 0, **text)

    def rest(self, seconds: float) -> None:
        self.evaluate(f"new Promise(done => setTimeout(done, {1000 * seconds}))")
