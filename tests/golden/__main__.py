"""python -m tests.golden PART [FOLDER]: a line per golden case with its largest difference beside its tolerance."""

import argparse
import sys
from collections import Counter
from pathlib import Path

from protos.options import run_command
from tests.golden.runner import PARTS, run_part
from tests.shared import shared_folder


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("part", choices=PARTS)
    parser.add_argument("folder", nargs="?", type=Path, help="default: $MOTION_SHARED/golden/PART")
    parser.add_argument("--only", default="", help="only cases whose name holds this text, or of this group")
    parser.add_argument("--traceback", action="store_true", help="show where a failing handler stopped")
    options = parser.parse_args(argv)

    folder = options.folder
    if folder is None:
        shared = shared_folder()
        folder = shared and shared / "golden" / options.part
        if folder is None or not folder.is_dir():
            print(f"skipped: no golden data for {options.part}; set MOTION_SHARED, name the FOLDER,"
                  " or put a folder `shared` beside the checkout")
            return 0
    counts = Counter()
    try:
        for result in run_part(options.part, folder, options.only):
            counts[result.status] += 1
            print(result, flush=True)
            if options.traceback and result.trace:
                print(result.trace)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if rest := ", ".join(f"{counts[status]} {status}" for status in ("not yet", "absent") if counts[status]):
        print(rest)
    print(f"{counts['passed']} passed, {counts['failed']} failed")
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    run_command(lambda: sys.exit(main()))
