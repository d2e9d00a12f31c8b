"""How many of our files a reader has to open who follows a prompt to its mp4: those in which a function runs, in any thread."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_house import LAYERS

ROOT = Path(__file__).resolve().parents[1]
MOST_FILES = 33
COUNTED = """
import inspect, json, runpy, sys, threading
root, ours, seen = sys.argv.pop(1), sys.argv.pop(1).split(","), {}
def profile(frame, event, _):
    code = frame.f_code
    function = code.co_flags & inspect.CO_OPTIMIZED and (code.co_name == "<lambda>" or not code.co_name.startswith("<"))
    if event == "call" and function and code.co_filename.startswith(root):  # no bodies of modules and classes
        file = code.co_filename[len(root):]
        if file.split("/")[0] in ours:  # not what is installed below the checkout
            seen.setdefault(file, []).append(code.co_qualname)
threading.setprofile(profile)
sys.setprofile(profile)
try:
    runpy.run_module("sample.sample", run_name="__main__", alter_sys=True)
finally:
    sys.setprofile(None)
    print(json.dumps({file: sorted(set(functions)) for file, functions in sorted(seen.items())}))
"""


@pytest.mark.slow
def test_a_prompt_reaches_its_mp4_through_few_files(tmp_path):
    """Nothing is kept from earlier runs: the text encoder runs too."""
    done = subprocess.run(
        [sys.executable, "-c", COUNTED, f"{ROOT}/", ",".join(LAYERS), "--text_prompt", "a person waves", "--motion_length", "1",
         "--sampling_steps", "2", "--num_repetitions", "1", "--device", "cpu"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT), "XDG_CACHE_HOME": str(tmp_path / "cache")},
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    assert list(tmp_path.glob("outputs/*/prompt00_rep00.mp4"))
    files = json.loads(done.stdout.splitlines()[-1])
    assert {"sample/sample.py", "model/registry.py", "visualize/video.py"} <= files.keys()
    assert len(files) <= MOST_FILES, "\n".join(f"{file}: {', '.join(functions[:6])}" for file, functions in files.items())
