"""How close the predicted peak memory of a rank is to the measured one, for ZeRO stages 0 to 3 on two CPU ranks.

    python -m benchmarks.prediction [--stages 0 1 2 3] [--tokens 1024 4096] [--precisions fp32] [--steps 3]
        [--texts 128] [--ranks 2] [--activation-memory 0] [--out FILE.json]

Each row trains all-MiniLM-L6-v2 (the demo's weights) for a few steps on texts made up here, all of 128 tokens, in new
processes, one per rank, and reads the peak of their resident memory; no evaluation, no checkpoint, no export. The
prediction is made in a process of its own, as `harness plan` makes it, and loads no weights. `seconds` are those of the
last step and those predicted (computing and optimizer only: what two ranks of one machine send is not known).

Goal: predicted / measured within 15 % in every row. Exit status 1: the goal is missed.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.runner import command_line
from benchmarks.runner.process import in_own_process
from harness.settings.environment import prepare_environment

if TYPE_CHECKING:
    from harness.config import LoadedRecipe

BOUND = 0.15
_LENGTH = 128  # tokens
_WORDS = ("the", "house", "water", "green", "light", "paper", "music", "stone", "river", "table")


@dataclass(frozen=True, slots=True)
class Case:
    """One run. tokens: budget of a micro-batch. texts: of a step. activation_memory: MiB for kept graphs, or auto."""

    stage: int
    precision: str
    tokens: int
    texts: int
    steps: int
    ranks: int
    folder: str
    activation_memory: str


@dataclass(frozen=True, slots=True)
class Row:
    """What was predicted and measured; bytes of the rank that held most, seconds of a step."""

    stage: int
    precision: str
    tokens: int
    moment: str
    predicted_bytes: int
    measured_bytes: int
    predicted_seconds: float | None
    measured_seconds: float

    @property
    def ratio(self) -> float:
        return self.predicted_bytes / self.measured_bytes

    @property
    def is_within(self) -> bool:
        return abs(self.ratio - 1) <= BOUND


def load(case: Case) -> LoadedRecipe:
    """The recipe of a case: one retrieval task without hard negatives over the made-up pairs."""
    from harness.config import load_recipe

    recipe = Path(case.folder) / "recipe.json"  # YAML, too
    task = {"name": "pairs", "kind": "retrieval", "path": "pairs.jsonl", "quota": case.texts // 2}
    content = {
        "name": "prediction",
        "model": {"name_or_path": "demo-minilm", "max_length": _LENGTH},
        "tasks": [task],
        "data": {"cache": f"{case.folder}/cache"},
        "training": {
            "steps": case.steps, "precision": case.precision, "micro_batch_tokens": case.tokens, "dropout": 0.0
        },
        "deepspeed": f"zero{case.stage}",
        "output": f"{case.folder}/run",
    }  # fmt: skip
    if not recipe.exists():
        recipe.write_text(json.dumps(content))
    changes = [
        f"deepspeed=zero{case.stage}",
        f"training.precision={case.precision}",
        f"training.micro_batch_tokens={case.tokens}",
        f"training.activation_memory={case.activation_memory}",
    ]
    return load_recipe(str(recipe), changes)


def write_pairs(folder: Path, count: int) -> None:
    """`count` pairs of texts that fill the whole length, no two alike."""
    with (folder / "pairs.jsonl").open("w", encoding="utf-8") as stream:
        for number in range(count):
            query, positive = (
                " ".join([f"{side} {number}", *(_WORDS[(number + i) % len(_WORDS)] for i in range(2 * _LENGTH))])
                for side in ("question", "answer")
            )
            stream.write(json.dumps({"query": query, "positive": positive}) + "\n")


def predicted(case: Case) -> tuple[str, int, float | None]:
    """The moment of the peak, its bytes, and the seconds of a step without sending."""
    prepare_environment()
    from harness.data.plan.plan import plan
    from harness.data.table.tokenisation import Tokeniser
    from harness.engine.zero import check_deepspeed_json
    from harness.prediction.of_recipe import Predictor, Wishes
    from harness.run.objective import check_divisible
    from harness.run.tasks import open_tasks
    from harness.settings.deepspeed_json import load_deepspeed_json

    loaded = load(case)
    config = loaded.config
    tasks = open_tasks(loaded, Tokeniser(config.model.name_or_path))
    zero = check_deepspeed_json(load_deepspeed_json(config.deepspeed, loaded.recipe_folder), config.deepspeed)
    objective = check_divisible(config, case.ranks)
    predictor = Predictor(config.model, config.training, objective, zero, case.ranks, Wishes())
    found = predictor.predict(plan(tasks, seed=config.training.seed, step=1, balance=config.loss.balance))
    times = (found.seconds.compute, found.seconds.optimizer)
    return found.peak_moment, found.peak_bytes, None if None in times else sum(filter(None, times))


def measured(case: Case, rank: int, port: int) -> tuple[int, float]:
    """Train on one of the ranks: the peak of its memory so far, and the seconds of its last step."""
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(case.ranks), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    prepare_environment()
    from harness import comm
    from harness.engine.step_cost import peak_memory_bytes
    from harness.run.build import build_run
    from harness.run.start import memory_allocator
    from harness.trainer import train_step

    comm.initialise()
    loaded = load(case)
    memory_allocator(loaded.config, case.stage)  # as a run sets it: where no graph is kept, freed memory goes back
    run = build_run(loaded)
    rows = [train_step(run, step) for step in run.steps(after=0)]
    peak = peak_memory_bytes()
    comm.barrier()
    return peak, rows[-1]["seconds"]


def compare(case: Case) -> Row:
    """Predict and measure one case."""
    moment, num_bytes, expected = in_own_process(predicted, case)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with ProcessPoolExecutor(case.ranks, mp_context=get_context("spawn")) as pool:
        started = [pool.submit(measured, case, rank, port) for rank in range(case.ranks)]
        results = [one.result() for one in started]
    peak, seconds = max(result[0] for result in results), max(result[1] for result in results)
    return Row(case.stage, case.precision, case.tokens, moment, num_bytes, peak, expected, seconds)


def show(row: Row) -> str:
    """A row as a line of the table."""
    expected = "not known" if row.predicted_seconds is None else f"{row.predicted_seconds:.2f}"
    sizes = f"{row.predicted_bytes / 2**20:>10,.0f} {row.measured_bytes / 2**20:>9,.0f}"
    verdict = "" if row.is_within else "  FAIL"
    return (
        f"{row.stage:>4} {row.precision:<13} {row.tokens:>7,} {row.moment:<8} {sizes} {row.ratio:>6.2f} "
        f"{expected:>10} {row.measured_seconds:>9.2f}{verdict}"
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Run all cases, print a line for each, and exit with status 1 if one misses the goal."""
    options = command_line.parser(__doc__)
    options.add_argument("--stages", type=int, nargs="+", default=[0, 1, 2, 3], choices=[0, 1, 2, 3])
    options.add_argument("--tokens", type=int, nargs="+", default=[1024, 4096])
    options.add_argument("--precisions", nargs="+", default=["fp32"])
    options.add_argument("--texts", type=int, default=128, help="of a step")
    options.add_argument("--steps", type=int, default=3)
    options.add_argument("--ranks", type=int, default=2)
    options.add_argument(
        "--activation-memory", default="0", help="MiB for kept graphs, or auto, which depends on what is free"
    )
    command_line.add_out(options)
    given = options.parse_args(argv)
    print("ZeRO precision      tokens moment    predicted  measured  ratio    seconds  measured   (MiB of a rank)")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        write_pairs(Path(folder), given.texts * given.steps // 2)
        for precision in given.precisions:
            for tokens in given.tokens:
                for stage in given.stages:
                    sizes = given.texts, given.steps, given.ranks
                    rows.append(compare(Case(stage, precision, tokens, *sizes, folder, given.activation_memory)))
                    print(show(rows[-1]), flush=True)
    command_line.write_json(given.out, [{**asdict(row), "ratio": row.ratio} for row in rows])
    failed = [row for row in rows if not row.is_within]
    print(f"{'FAIL' if failed else 'PASS'}: {len(rows) - len(failed)} of {len(rows)} within {BOUND:.0%}")
    sys.exit(bool(failed))
