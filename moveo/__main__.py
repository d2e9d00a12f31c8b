"""moveo COMMAND ...: all commands under one name. `moveo sample` is `python -m sample.sample`; `moveo` alone lists them.

Unlike with `python -m`, the current folder is no place to import from: in any folder, a `model/` of the user's stays the user's.
"""

import difflib
import importlib
import re
import shutil
import sys
import textwrap
from functools import partial
from pathlib import Path

CODE = Path(__file__).resolve().parents[1]
FOLDERS = {  # of commands, and what these are for
    "sample": "Make, change, describe and find motions",
    "visualize": "Show motions, and write them for other programs",
    "data_loaders": "Prepare recordings",
    "train": "Train, and share what was trained",
    "evaluations": "Judge",
    "protos": "Fetch official weights and data",
}
RUN = '\nif __name__ == "__main__":'


def commands() -> dict[str, Path]:
    """The files of the commands by their names, which are those of their modules."""
    files = (path for folder in FOLDERS for path in sorted((CODE / folder).glob("*.py")))
    return {path.stem: path for path in files if RUN in path.read_text(encoding="utf-8")}


def described(path: Path) -> str:
    """What a command is for: its docstring's first paragraph, which follows how it is called."""
    first = re.match(r'"""(.+?)(?:\n\n|""")', path.read_text(encoding="utf-8"), re.DOTALL)[1]
    return " ".join(first.partition(": ")[2].split())


def listing(known: dict[str, Path]) -> str:
    """All commands with what they are for."""
    width, longest = min(shutil.get_terminal_size().columns, 130), max(map(len, known))
    lines = ["usage: moveo COMMAND ...", "", "moveo COMMAND --help tells its flags."]
    for folder, purpose in FOLDERS.items():
        lines += ["", f"{purpose}:"]
        for name, path in known.items():
            if path.parent.name == folder:
                start, rest = f"  {name:<{longest}}  ", " " * (longest + 4)
                lines.append(textwrap.fill(described(path), width, initial_indent=start, subsequent_indent=rest))
    return "\n".join(lines)


def leave_out_current_folder() -> None:
    """Takes the current folder off the import path, unless this code lies there: `python -m moveo` has put it there, or an empty
    entry of PYTHONPATH."""
    try:
        here = Path.cwd()
    except OSError:  # it was removed: nothing can be imported from there
        return
    if here != CODE:
        sys.path[:] = [place for place in sys.path if Path(place).resolve() != here]


def main() -> None:
    """Runs the command that is named, or lists all. Exits with 2 where there is none of that name."""
    leave_out_current_folder()
    from protos.options import run_command

    known, asked = commands(), sys.argv[1] if len(sys.argv) > 1 else "--help"
    name = asked.replace("-", "_")
    if asked in ("-h", "--help"):
        run_command(partial(print, listing(known), flush=True))
    elif name in known:
        sys.argv = [f"moveo {name}", *sys.argv[2:]]
        run_command(importlib.import_module(f"{known[name].parent.name}.{name}").main)
    else:
        close = "".join(f"; do you mean {near}?" for near in difflib.get_close_matches(name, known, 1))
        print(f"error: moveo has no command {asked!r:.60}{close} `moveo` lists all", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
