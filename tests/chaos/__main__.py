"""`python -m tests.chaos [--kills 50] [--steps 200] [--seed 0]`: kills ranks of a run, continues it, compares the bits.

First one kill in each phase of a short run, then random kills of random ranks over a run of `--steps` steps, each
start by the same launcher command. Prints a row per kill. Exit status 1: the end differs from that of an undisturbed
run, or a start ended otherwise than it should.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from tests.chaos.armed import PHASES
from tests.chaos.launched import End, Launched, last_step

RANKS = 2
STEPS_OF_PHASES = 8
_MEASURED = ("seconds", "texts_per_second", "tokens_per_second", "memory", "graphs_kept")  # of the machine, not the run
_START_SHARE, _LONGEST_START = 0.1, 12.0  # kills that come before the first step, and within how many seconds


def main() -> int:
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(options.keep or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "log.txt").open("a") as log:
            problems = _phases(folder, options.phases, log) if "phases" in options.only else []
            problems += _random_kills(folder, options, log) if "random" in options.only else []
    print("\n".join(problems) or "the same bits as undisturbed, every time")
    return int(bool(problems))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="+", choices=("phases", "random"), default=("phases", "random"))
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=PHASES)
    parser.add_argument("--keep", metavar="FOLDER", help="work there, and leave the runs and log.txt there")
    return parser.parse_args()


def _recipe(folder: Path, steps: int, save_every: int, rank_every: int) -> Path:
    """A recipe with dropout, replaced negatives, rankings anew, evaluations and checkpoints."""
    from tests.tiny import make_data, make_model, make_recipe

    folder.mkdir()
    make_model(folder / "model")
    make_data(folder)
    path = make_recipe(folder)
    text = (
        path.read_text()
        .replace("steps: 6", f"steps: {steps}")
        .replace("{every: 2, keep: 2}", f"{{every: {save_every}, keep: 2}}")
    )
    text = text.replace("evaluation: {every: 3,", f"evaluation: {{every: {10 * save_every},").replace(
        "per_query: 2}", "per_query: 2, offset: 0}"
    )
    mining = "rule: v2, check: upcoming, interval: 2, delay: 1, floor: 0.5"
    path.write_text(f"{text}mining: {{{mining}, remine: {{every: {rank_every}, candidates: 20}}}}\n")
    return path


def _finish(recipe: Path, output: Path, log: IO[str]) -> End:
    started = Launched(recipe, output, log, RANKS)
    status = started.process.wait()
    return End(status, 0.0, 0) if status == 0 else started.wait([])


def outcome(run: Path) -> dict[str, Any]:
    """What a run leaves and that must not depend on kills."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    rows = [{key: value for key, value in row.items() if not key.startswith(_MEASURED)} for row in rows]
    weights = (run / "model" / "model.safetensors").read_bytes()
    return {"metrics": rows, "evaluation": json.loads((run / "evaluation.json").read_text()), "weights": weights}


def _differences(name: str, run: Path, whole: dict[str, Any]) -> list[str]:
    if not (run / "model" / "model.safetensors").is_file():
        return [f"{name}: there is no model at the end"]
    left = outcome(run)
    return [f"{name}: {key} differ from the undisturbed run" for key in whole if left[key] != whole[key]]


def _phases(folder: Path, phases: Sequence[str], log: IO[str]) -> list[str]:
    """One kill in each phase, of rank 1 and of rank 0 by turns."""
    recipe = _recipe(folder / "phases", STEPS_OF_PHASES, 2, 3)
    problems = []
    if _finish(recipe, folder / "phases" / "whole", log).status:
        return ["phases: the undisturbed run failed; see log.txt"]
    whole = outcome(folder / "phases" / "whole")
    for number, phase in enumerate(phases):
        output, rank, step = folder / "phases" / phase, number % RANKS, 5
        variables = {"CHAOS_PHASE": phase, "CHAOS_RANK": str(rank), "CHAOS_STEP": str(step)}
        start = Launched(recipe, output, log, RANKS, "tests.chaos.armed", **variables)
        ranks = _until_first_end(start)
        end = start.wait(ranks)
        reached = last_step(output)
        continued = _finish(recipe, output, log)
        new = [] if end.status else [f"{phase}: the killed start ended with status 0"]
        new += [f"{phase}: {end.outlived} ranks outlived the launcher"] if end.outlived else []
        new += [f"{phase}: continued with status {continued.status}"] if continued.status else []
        new += _differences(phase, output, whole)
        found = f"continued: {'; '.join(new) or 'same bits'}"
        print(f"phase {phase:8s} rank {rank}  after step {reached}: {_in_words(end)}; {found}", flush=True)
        problems += new
    return problems


def _until_first_end(start: Launched) -> list[Any]:
    """Wait until a rank has ended; the processes of all ranks, as they were before."""
    ranks: list[Any] = []
    while start.is_running():
        now = start.all_ranks(RANKS)
        if len(now) < len(ranks) or (ranks and not all(process.is_running() for process in ranks)):
            return ranks
        ranks = now or ranks
        time.sleep(0.1)
    return ranks


def _random_kills(folder: Path, options: argparse.Namespace, log: IO[str]) -> list[str]:
    recipe = _recipe(folder / "random", options.steps, 2, 25)
    output, chance = folder / "random" / "killed", random.Random(options.seed)
    started = time.monotonic()
    if _finish(recipe, folder / "random" / "whole", log).status:
        return ["random kills: the undisturbed run failed; see log.txt"]
    print(f"undisturbed: {options.steps} steps in {time.monotonic() - started:.0f} s", flush=True)
    problems, kills = [], 0
    while kills < options.kills:
        start, first = Launched(recipe, output, log, RANKS), last_step(output)
        ranks = _wait_for_the_moment(start, output, chance, options, kills)
        rank = chance.randrange(RANKS)
        if not start.kill(rank):
            end = start.wait(ranks)
            if end.status == 0:
                print(f"the run ended before kill {kills + 1}", flush=True)
                break
            return [*problems, f"kill {kills + 1}: the start ended by itself with status {end.status}; see log.txt"]
        kills, end = kills + 1, start.wait(ranks)
        print(f"kill {kills:3d} rank {rank}  steps {first} to {last_step(output)}: {_in_words(end)}", flush=True)
        problems += [] if end.status else [f"kill {kills}: status 0"]
        problems += [f"kill {kills}: {end.outlived} ranks outlived the launcher"] if end.outlived else []
    status = _finish(recipe, output, log).status
    problems += [f"random kills: the last start ended with status {status}; see log.txt"] if status else []
    problems += _differences("random kills", output, outcome(folder / "random" / "whole"))
    print(f"{kills} kills in {time.monotonic() - started:.0f} s", flush=True)
    return problems


def _in_words(end: End) -> str:
    return f"ended {end.seconds:.1f} s later with status {end.status}"


def _wait_for_the_moment(
    start: Launched, output: Path, chance: random.Random, options: argparse.Namespace, kills: int
) -> list[Any]:
    """Wait for a random moment: while the ranks start, or some steps later, so that kills are spread over the run."""
    before, moment = last_step(output), chance.random()
    if chance.random() < _START_SHARE:
        time.sleep(moment * _LONGEST_START)
        while start.is_running() and not start.all_ranks(RANKS):
            time.sleep(0.05)
        return start.all_ranks(RANKS)
    mean = (options.steps - before) / (options.kills - kills + 1)
    target = min(options.steps - 1, before + round(2 * mean * moment))
    ranks: list[Any] = []
    rows_seen = (output / "metrics.jsonl").stat().st_mtime_ns if (output / "metrics.jsonl").exists() else 0
    while start.is_running():
        file = output / "metrics.jsonl"
        has_begun = file.exists() and file.stat().st_mtime_ns != rows_seen
        if has_begun and last_step(output) >= target:
            break
        ranks = start.all_ranks(RANKS) if len(ranks) < RANKS else ranks
        time.sleep(0.02)
    time.sleep(chance.random() * 0.2)
    return start.all_ranks(RANKS) or ranks


if __name__ == "__main__":
    sys.exit(main())
