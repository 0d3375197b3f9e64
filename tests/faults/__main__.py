"""`python -m tests.faults [--only A1 B ...] [--keep FOLDER]`: brings every fault about by the real commands.

A row each: what the fault is, seconds to the end, exit status, what was lost, the line that a user reads. Exit status
1: a row is not as it must be. Takes about half an hour on two cores; rows of two hosts need network namespaces.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults import hosts, integrity, ownership
from tests.faults.fault import Fault, Seen

SHOWN = 200  # characters of a message


def main(arguments: list[str] | None = None) -> int:
    options = _options(arguments)
    rows = _chosen(options.only)
    print("| row | fault | seconds | status | lost | message | right |\n| --- | --- | --- | --- | --- | --- | --- |")
    wrong = 0
    with _folder(options.keep) as folder:
        for number, fault in enumerate(rows):
            seen, seconds = _brought_about(fault, folder / f"{number:02d}-{fault.row}")
            wrong += not seen.right
            print(_line(fault, seen, seconds), flush=True)
    print(f"\n{len(rows) - wrong} of {len(rows)} rows are as they must be", flush=True)
    return int(wrong > 0)


def all_faults() -> list[Fault]:
    """Every row, in the order of their numbers."""
    rows = [*ownership.ROWS, *integrity.ROWS, *hosts.ROWS]
    return sorted(rows, key=lambda fault: (fault.row[0], int(fault.row[1:])))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--only", nargs="+", default=[], metavar="ROW", help="A, B, or rows such as A4")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="work there, and leave the runs there")
    return parser.parse_args(arguments)


def _chosen(only: list[str]) -> list[Fault]:
    rows = [fault for fault in all_faults() if not only or fault.row in only or fault.row[0] in only]
    if not rows:
        known = sorted({fault.row for fault in all_faults()}, key=lambda row: (row[0], int(row[1:])))
        sys.exit(f"--only: got {' '.join(only)}, expected A, B or some of {' '.join(known)}")
    return rows


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="faults-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)
    else:
        keep.mkdir(parents=True)
        yield keep


def _brought_about(fault: Fault, folder: Path) -> tuple[Seen, float]:
    """What was seen, and after how many seconds. A row that does not end, or that breaks itself, is wrong."""
    folder.mkdir()
    start = time.monotonic()
    try:
        seen = fault.run(folder)
    except subprocess.TimeoutExpired as error:
        seen = Seen(-1, f"no end after {error.timeout:.0f} s", "the user's time", False)
    except Exception as error:  # the other rows are still worth seeing
        seen = Seen(-1, f"the row itself failed: {type(error).__name__}: {error}", "unknown", False)
    return seen, time.monotonic() - start


def _line(fault: Fault, seen: Seen, seconds: float) -> str:
    message = " ".join(seen.message.replace("|", "\\|").split())
    message = message if len(message) <= SHOWN else f"{message[:SHOWN]} ..."
    cells = (fault.row, fault.name, f"{seconds:.1f}", seen.status, seen.lost, message, "yes" if seen.right else "NO")
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    raise SystemExit(main())
