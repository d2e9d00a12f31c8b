"""Work in a process of its own: results and refusals come back, limits hold, and the next call finds a process again."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from protos.confined import Confined, LimitError

ROOT = Path(__file__).resolve().parents[1]


def work(what: str, number: int = 0):
    """What a test asks for, done by this module in the other process."""
    if what == "refuse":
        raise FileNotFoundError(2, "No such file", "a.bvh")
    if what == "fault":
        raise KeyError("hidden")
    if what == "wait":
        time.sleep(number)
    if what == "fill":
        return len(bytearray(number))
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    return os.getpid()


@pytest.fixture(scope="module")
def confined():
    confined = Confined(work, seconds=2.0, megabytes=200)
    yield confined
    confined.close()


def test_one_warm_process_answers_call_after_call(confined):
    first = confined("pid")
    assert first != os.getpid() and confined("pid") == first
    with pytest.raises(ValueError, match=r"^a\.bvh: No such file$"):
        confined("refuse")
    with pytest.raises(RuntimeError, match="its traceback is in the log"):
        confined("fault")
    assert confined("pid") == first


@pytest.mark.parametrize("what, number, message", [
    ("wait", 60, "more than 2 s"), ("fill", 2 << 30, "more than 200 MB of memory"), ("crash", 0, "memory"),
])  # fmt: skip
def test_what_passes_a_limit_ends_and_the_next_call_is_answered(confined, what, number, message):
    confined("pid")
    start = time.monotonic()
    with pytest.raises(LimitError, match=message):
        confined(what, number)
    assert time.monotonic() - start < 10
    assert confined("fill", 1 << 20) == 1 << 20


def test_a_folder_goes_with_its_caller_also_where_that_is_killed(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "upload.bvh").write_text("private")
    code = ("import sys, time; from pathlib import Path; from protos.confined import Confined\n"
            "from tests.test_confined import work\n"
            "if __name__ == '__main__':\n"
            "    confined = Confined(work, 5.0, 200, scratch=Path(sys.argv[1])); confined('pid'); print('ready', flush=True)\n"
            "    time.sleep(60)\n")  # fmt: skip
    (tmp_path / "caller.py").write_text(code)
    command = [sys.executable, str(tmp_path / "caller.py"), str(scratch)]
    caller = subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)
    assert caller.stdout.readline() == "ready\n"
    caller.kill()
    caller.wait()
    until = time.monotonic() + 20
    while scratch.exists():
        assert time.monotonic() < until
        time.sleep(0.1)
