"""Measure how seconds and memory grow with the data: does any operation grow faster than its data?

    python -m benchmarks.growth [--only reading plan ...] [--scale 1.0] [--out FILE.json]

Every topic is a module of this folder and runs in a new process. --scale multiplies the sizes; goals are judged at 1
only. Exit status 1: a goal is missed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from benchmarks.growth.row import Row
from benchmarks.runner import command_line
from benchmarks.runner.process import in_own_process
from harness.settings.environment import prepare_environment

_NOT_TOPICS = {"__init__", "__main__", "benchmark", "row"}
TOPICS = tuple(sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in _NOT_TOPICS))


def main() -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--only", nargs="+", choices=TOPICS, default=TOPICS, metavar="TOPIC", help=", ".join(TOPICS))
    parser.add_argument("--scale", type=float, default=1.0)
    command_line.add_out(parser)
    options = parser.parse_args()
    prepare_environment()
    table: dict[str, list[Row]] = {}
    for topic in options.only:
        started = time.monotonic()
        table[topic] = in_own_process(rows_of, topic, options.scale)
        print(f"\n{topic} ({time.monotonic() - started:.0f} s)")
        show(table[topic])
    command_line.write_json(options.out, {topic: [asdict(row) for row in rows] for topic, rows in table.items()})
    missed = [row for rows in table.values() for row in rows if row.met is False]
    sys.exit(1 if missed and options.scale == 1.0 else 0)


def rows_of(topic: str, scale: float) -> list[Row]:
    """The rows of one topic."""
    rows: list[Row] = import_module(f"benchmarks.growth.{topic}").rows(scale)
    return rows


def show(rows: Sequence[Row]) -> None:
    """Print a line per row."""
    verdicts = {True: "met", False: "MISSED", None: ""}
    for row in rows:
        seconds = _or_unknown(row.seconds, "{:.3f} s")
        cpu = _or_unknown(row.cpu_seconds, "{:.3f} CPU s")
        peak = _or_unknown(None if row.peak_bytes is None else row.peak_bytes / 2**20, "{:.1f} MiB")
        print(f"  {row.what:<52} {row.size:<34} {seconds:>12} {cpu:>14} {peak:>14}  {row.goal} {verdicts[row.met]}")


def _or_unknown(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)
