"""Compare time and memory of `info_nce` with naive torch and with packages that compute the same loss.

    python -m benchmarks.kernel [--device cuda|cpu] [--sizes small|goals|full] [--repeats N] [--budget-seconds S]
                                [--skip IMPLEMENTATION] [--out FILE.json] [--markdown]

A side is one implementation of the loss. Value and gradients of every side are checked before it is timed
(`agreement.py`). The dtype is float32 on a CPU and bfloat16 on a GPU. Run it on a machine that does nothing else; the
sides take turns, so that a disturbance hits all of them.
"""

from __future__ import annotations

import argparse
import faulthandler
import math
import platform
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.kernel.cases import TEMPERATURE, cases
from benchmarks.kernel.goals import Verdict, verdicts
from benchmarks.kernel.report import LEGEND, Row, not_run_here, table
from benchmarks.kernel.run import run_case
from benchmarks.kernel.sides import NAMES
from benchmarks.runner import command_line

PACKAGES = ("torch", "triton", "liger-kernel", "cut-cross-entropy", "quack-kernels", "nvidia-cutlass-dsl", "inf-cl")
REPEATS = {"cpu": 5, "cuda": 20}
# A hanging kernel cannot be interrupted from Python, so the process ends itself this long after the budget.
GRACE_SECONDS = 120


def main(arguments: Sequence[str] | None = None) -> None:
    parser = command_line.parser(__doc__)
    parser.add_argument("--device", choices=tuple(REPEATS), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--sizes", choices=("small", "goals", "full"), default="goals")
    parser.add_argument("--repeats", type=int, help=f"rounds of turns; default {REPEATS}")
    parser.add_argument(
        "--budget-seconds", type=float, default=math.inf, help="stop after this long; shared by the cases"
    )
    parser.add_argument("--skip", action="append", default=[], choices=NAMES, help="leave a side out; may be repeated")
    command_line.add_out(parser)  # written after every case
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device: got cuda, expected cpu; torch sees no GPU here")
    if options.repeats is not None and options.repeats < 1:
        parser.error(f"--repeats: got {options.repeats}, expected at least 1")
    if not options.budget_seconds >= 0:
        parser.error(f"--budget-seconds: got {options.budget_seconds}, expected at least 0")
    if math.isfinite(options.budget_seconds):
        faulthandler.dump_traceback_later(options.budget_seconds + GRACE_SECONDS, exit=True, file=2)
    try:
        record = run(options, sys.argv[1:] if arguments is None else arguments)
    finally:
        faulthandler.cancel_dump_traceback_later()
    print(describe(record, markdown=options.markdown))


def run(options: argparse.Namespace, arguments: Sequence[str]) -> dict[str, Any]:
    """Measure all cases and return the record of the run. It is written to `--out` after every case."""
    device = torch.device(options.device)
    repeats = options.repeats or REPEATS[device.type]
    record = about_this_run(device, repeats, arguments)
    rows: list[Row] = []
    end = time.monotonic() + options.budget_seconds
    chosen = cases(device, options.sizes)
    for position, case in enumerate(chosen):
        now = time.monotonic()
        deadline = now + (end - now) / (len(chosen) - position)
        if now >= end:
            record["left_out"].append(f"{case}: the time budget was spent")
        else:
            try:
                rows += run_case(case, device, repeats, deadline, options.skip)
            except Exception as error:  # such as a GPU that stopped answering: keep the results so far
                record["left_out"].append(f"{case}: {type(error).__name__}: {error}")
        record["rows"] = [asdict(row) for row in rows]
        record["goals"] = [asdict(verdict) for verdict in verdicts(device.type, rows)]
        command_line.write_json(options.out, record)
    return record


def about_this_run(device: torch.device, repeats: int, arguments: Sequence[str]) -> dict[str, Any]:
    """Facts that a reader needs to compare the figures with those of another run: versions, hardware, command."""
    return {
        "command": shlex.join(["python", "-m", "benchmarks.kernel", *arguments]),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "device": device.type,
        "chip": torch.cuda.get_device_name(device) if device.type == "cuda" else processor_name(),
        "machine": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "threads": torch.get_num_threads(),
        # torch with its build (+cu130), which the metadata of PyPI's package does not name
        "versions": {package: installed_version(package) for package in PACKAGES} | {"torch": torch.__version__},
        "temperature": TEMPERATURE,
        "repeats": repeats,
        "rows": [],
        "left_out": [],
        "goals": [],
    }


def describe(record: dict[str, Any], *, markdown: bool) -> str:
    """Format the table with its legend, the sides and cases that did not run and why, and the goals."""
    versions = ", ".join(f"{package} {number}" for package, number in record["versions"].items() if number)
    sections = [
        f"{record['chip']}, {record['machine']}, {record['threads']} threads, {record['date']}\n{versions}\n"
        f"{record['command']}",
        table(record["rows"], markdown=markdown),
        LEGEND,
        _list("Matrix rate", matrix_rates(record["rows"])),
        _list("Not run here", not_run_here(record["rows"])),
        _list("Cases left out", record["left_out"]),
        _list("Goals", [str(Verdict(**goal)) for goal in record["goals"]]),
    ]
    return "\n\n".join(section for section in sections if section)


def matrix_rates(rows: Sequence[dict[str, Any]]) -> list[str]:
    """For each case the measured rate of a matrix product, to which the column `share` refers."""
    case = "B={queries} N={documents} D={width} K={levels}: {matrix_teraflops:.3g} TFLOP/s in {dtype}"
    measured = (row for row in rows if row["matrix_teraflops"] is not None)
    return list(dict.fromkeys(case.format(**row, levels=len(row["dims"])) for row in measured))


def _list(title: str, lines: Sequence[str]) -> str:
    return "\n".join([f"{title}:", *(f"- {line}" for line in lines)]) if lines else ""


def installed_version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def processor_name() -> str:
    """The CPU model (on Linux) and the instruction set that torch uses."""
    model = platform.machine()
    information = Path("/proc/cpuinfo")
    if information.is_file():
        lines = information.read_text(encoding="utf-8").splitlines()
        model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), model)
    return f"{model} ({torch.backends.cpu.get_cpu_capability()})"
