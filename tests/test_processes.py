"""--processes N: what the processes of a command share, how they end, and who can reach them."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def begin(tmp_path):
    """Starts the tiny command; TMPDIR is a folder of its own, so that what is left there is seen."""
    (tmp_path / "tmp").mkdir()
    (tmp_path / "out").mkdir()

    def command(*flags: str, launcher: tuple[str, ...] = (), **changes: str) -> subprocess.Popen:
        words = [sys.executable, *launcher, "-m", "tests.tiny_command", "--folder", str(tmp_path / "out"), *flags]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path / "tmp"), "MOVEO_DEBUG": "0", **changes}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        begun.append(subprocess.Popen(words, cwd=ROOT, env=environment, **pipes))
        return begun[-1]

    begun: list[subprocess.Popen] = []
    yield command
    for process in begun:
        process.terminate()
        process.communicate()
    assert not list((tmp_path / "tmp").glob("moveo_*"))


def pids(folder: Path, count: int = 2) -> list[int]:
    """The processes of the tiny command, once all have begun."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        found = [path.read_text() for path in folder.iterdir()]
        if len(found) == count and all(found):
            return [int(text) for text in found]
        time.sleep(0.05)
    raise AssertionError(f"only {found} began")


def gone(number: int) -> bool:
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def listening(pid: int) -> list[str]:
    """Local addresses, in the system's hexadecimal, of the sockets on which a process takes connections."""
    links = [os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()]
    own = {link.removeprefix("socket:[").removesuffix("]") for link in links if link.startswith("socket:[")}
    found = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *rest = line.split()
            if state == "0A" and rest[5] in own:
                found.append(local.split(":")[0])
    return found


LOOPBACK = ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")


@pytest.mark.skipif(not Path("/proc/net/tcp").is_file(), reason="the system has no /proc/net/tcp")
def test_nothing_listens_beyond_loopback_and_ctrl_c_ends_all(begin, tmp_path):
    process = begin("--end", "waiting", GLOO_SOCKET_IFNAME=socket.if_nameindex()[-1][1])  # whatever the machine is set to
    started = pids(tmp_path / "out")
    addresses = [address for pid in (process.pid, *started) for address in listening(pid)]
    assert addresses and set(addresses) <= set(LOOPBACK)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and said == ""
    assert all(map(gone, started))


@pytest.mark.slow
def test_a_killed_command_takes_its_processes_along(begin, tmp_path):
    process = begin("--end", "waiting")
    started = pids(tmp_path / "out")
    process.kill()
    process.communicate()
    end = time.monotonic() + 30
    while time.monotonic() < end and not all(map(gone, started)):
        time.sleep(0.05)
    assert all(map(gone, started))
    for folder in (tmp_path / "tmp").glob("moveo_*"):  # all that a killed command leaves behind
        assert {path.name for path in folder.iterdir()} <= {"store"}
        (folder / "store").unlink(missing_ok=True)
        folder.rmdir()


def test_each_process_does_its_part(begin):
    process = begin()
    shown, said = process.communicate(timeout=120)
    assert (process.returncode, shown, said) == (0, "[0, 2, 4, 6, 8] 0\n", "")


@pytest.mark.parametrize("end, code, line", [
    ("all_refused", 1, "error: no such motion"),
    ("killed", 137, "error: process 2 of 2 ended by SIGKILL, and the others with it"),
    pytest.param("refused", 1, "error: no such motion", marks=pytest.mark.slow),
    pytest.param("code", 7, "", marks=pytest.mark.slow),
])  # fmt: skip
def test_one_that_fails_ends_all_with_one_line_and_its_code(begin, tmp_path, end, code, line):
    process = begin("--end", end)
    _, said = process.communicate(timeout=120)
    assert (process.returncode, said.strip()) == (code, line)
    assert all(map(gone, pids(tmp_path / "out")))


@pytest.mark.slow
def test_a_fault_of_the_program_comes_with_the_traceback_of_its_process(begin, tmp_path):
    process = begin("--end", "fault")
    _, said = process.communicate(timeout=120)
    assert process.returncode == 70 and len(said.splitlines()) == 1 and "OfTwoArguments: 1 and 2" in said
    saved = (tmp_path / "tmp").glob("moveo-fault-*.txt")
    assert "In process 2:" in (text := next(saved).read_text()) and "raise OfTwoArguments(1, 2)" in text


def test_torchrun_starts_the_same(begin):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    process = begin("--processes", "1", launcher=torchrun)
    shown, said = process.communicate(timeout=120)
    assert (process.returncode, shown) == (0, "[0, 2, 4, 6, 8] 0\n"), said


@pytest.mark.slow
def test_torchrun_and_processes_are_one_too_many(begin):
    process = begin("--processes", "2", launcher=("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"))
    _, said = process.communicate(timeout=120)
    assert process.returncode and "--processes 2: torchrun has started 2 processes already" in said


def test_processes_read_captions_alike_and_keep_what_they_read_in_one_place(begin, tmp_path):
    process = begin("--end", "table", XDG_CACHE_HOME=str(tmp_path / "cache"))
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0, said
    main, other = ((tmp_path / "out" / str(rank)).read_text() for rank in range(2))
    assert main == other and len(list((tmp_path / "cache").glob("moveo/texts/*.sqlite"))) == 1


@pytest.mark.slow
def test_where_features_cannot_be_kept_no_process_waits_for_another(begin, tmp_path):
    (tmp_path / "cache").write_text("not a folder")
    process = begin("--end", "table", XDG_CACHE_HOME=str(tmp_path / "cache"))
    _, said = process.communicate(timeout=120)
    assert process.returncode == 0 and "text features in" in said and "are not usable" in said
    main, other = ((tmp_path / "out" / str(rank)).read_text() for rank in range(2))
    assert main == other
