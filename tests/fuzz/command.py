"""`python -m tests.fuzz [--inputs N] [--only TARGET ...] [--seed S] [--seconds T] [--jobs J]`: counts per target."""

from __future__ import annotations

import argparse
import math
import os
import resource
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing import get_context

from rich.console import Console
from rich.table import Table

from tests.fuzz.target import Tally, Target, run_batch

BATCH = 500  # inputs
MOST_MEMORY = 12 << 30  # bytes of addresses a process may hold: an input that needs more is a find
SHOWN = 400  # characters of an input


def main() -> int:
    arguments = _arguments()
    targets = _targets(arguments.only)
    started, tallies = time.monotonic(), {target.name: Tally() for target in targets}
    waiting = _batches(targets, arguments.inputs, arguments.seed)
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn"), _limit_memory) as pool:
        running: dict[Future[Tally], str] = {}
        while waiting or running:
            is_over = arguments.seconds is not None and time.monotonic() - started > arguments.seconds
            while waiting and len(running) < 2 * arguments.jobs and not is_over:
                name, count, seed = waiting.pop()
                running[pool.submit(_run, name, count, seed)] = name
            if is_over:
                waiting.clear()
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                tallies[running.pop(future)].add(future.result())
    return _show(tallies, time.monotonic() - started)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--inputs", type=int, default=20_000, help="of all targets together (20000)")
    parser.add_argument("--only", nargs="+", default=[], metavar="TARGET", help="targets whose name begins so")
    parser.add_argument("--seed", type=int, default=0, help="the same seed gives the same inputs (0)")
    parser.add_argument("--seconds", type=float, help="start no further batch of inputs after so many seconds")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (one per core)")
    return parser.parse_args()


def all_targets() -> list[Target]:
    """Every target; importing them loads what they try."""
    from tests.fuzz import evaluation, manifests, models, recipes, rows

    return [target for module in (rows, recipes, manifests, models, evaluation) for target in module.TARGETS]


def _targets(only: list[str]) -> list[Target]:
    targets = all_targets()
    chosen = [target for target in targets if not only or any(target.name.startswith(name) for name in only)]
    if not chosen:
        sys.exit(f"--only: got {' '.join(only)}, expected the beginning of: {'; '.join(t.name for t in targets)}")
    return chosen


def _batches(targets: list[Target], inputs: int, seed: int) -> list[tuple[str, int, int]]:
    """(target, inputs, seed) of every batch, those of all targets mixed evenly."""
    shares = sum(target.share for target in targets)
    batches = []
    for target in targets:
        count = math.ceil(inputs * target.share / shares)
        numbers = range(math.ceil(count / BATCH))
        of_target = [(target.name, min(BATCH, count - BATCH * n), seed * 1_000_003 + n) for n in numbers]
        batches += [((n + 0.5) / len(of_target), batch) for n, batch in enumerate(of_target)]
    return [batch for _, batch in sorted(batches, reverse=True)]


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))


def _run(name: str, count: int, seed: int) -> Tally:
    (target,) = (target for target in all_targets() if target.name == name)
    return run_batch(target, count, seed)


def _show(tallies: dict[str, Tally], seconds: float) -> int:
    table = Table("target")
    for name in ("inputs", "different", "read", "refused in a line", "finds", "ms per input"):
        table.add_column(name, justify="right")
    for name, tally in tallies.items():
        numbers = (tally.total, len(tally.inputs), tally.read, tally.refused, sum(tally.found.values()))
        table.add_row(name, *(f"{number:,}" for number in numbers), f"{1000 * tally.seconds / max(1, tally.total):.2f}")
    Console(width=130).print(table)
    for name, tally in tallies.items():
        for place, (what, shown) in tally.finds.items():
            print(f"\nFIND {name}: {place} ({tally.found[place]} inputs)\n  {what}\n  input: {shown[:SHOWN]}")
    total, finds = sum(tally.total for tally in tallies.values()), sum(len(tally.finds) for tally in tallies.values())
    print(f"\n{total:,} inputs in {seconds:.0f} s, {finds} kinds of finds")
    return int(finds > 0)
