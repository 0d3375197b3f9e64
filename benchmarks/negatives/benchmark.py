"""Static hard negatives, dynamic replacement by v1 and v2, and no hard negatives: held-out nDCG@10 on four data sets.

    python -m benchmarks.negatives --data-root DIR --out FOLDER [--size small] [--only ARM:SEED ...] [--extra]
    python -m benchmarks.negatives --out FOLDER --table        # shows the finished runs; trains nothing

Every run trains the retrieval tasks stackfaq_en, cranfield_en, cmrc2018_zh and alpaca_en together, from the same
starting model. All runs have the same rows, steps and learning rate; runs with the same seed have the same order of
queries. `harness mine` ranks candidates once, without filters. `static` keeps each query's first candidates (from rank
10 on), `v1` and `v2` replace them with later ranks. `none` has no hard negatives but more queries in a step, so that a
step has the same number of tokens. A run is `harness train` followed by `harness evaluate`, each in a new process.
Finished runs are not repeated: start the same command again to continue an experiment that was killed. The results are
FOLDER/result.md, result.json and negatives.png.
"""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.negatives.data import TRAIN_FILES, write_data
from benchmarks.negatives.recipes import ARMS, MAX_LENGTH, PUBLISHED_ARMS, SIZES, Size, recipe
from benchmarks.negatives.result import write_result
from benchmarks.runner.experiment import (
    agreed_facts,
    chosen_runs,
    execute,
    experiment_parser,
    mine,
    run_all,
    score_model,
)
from benchmarks.runner.tokens import equal_token_quota


def main() -> None:
    data, sizes_are = "train/, retrieval/ and prompt_response/", "small: a CPU core; full: a GPU"
    parser = experiment_parser(__doc__, data=data, sizes=tuple(SIZES), sizes_are=sizes_are, arms=tuple(ARMS))
    parser.add_argument("--extra", action="store_true", help="v2 without its floor, too, after the others")
    execute(parser, train, write_result)


def train(options: Namespace, out: Path) -> None:
    """Train and evaluate the runs that the options choose."""
    runs, size = runs_in_order(options.only, options.seeds, options.extra), SIZES[options.size]
    quotas = prepare(options.data_root, out, options.model, size)["quotas_without_negatives"]
    make = partial(recipe, size=size, model=options.model, out=out, quotas=quotas)
    run_all(runs, make, out, held_out(out), MAX_LENGTH, options.jobs)


def runs_in_order(only: list[str] | None, seeds: list[int], extra: bool) -> list[tuple[str, int]]:
    """Return (arm, seed): the runs in `only`, or else the published arms seed by seed, then the extra arm if `extra`.

    Raises:
        ValueError: an item of `only` is not the name of a run.
    """
    if only:
        return chosen_runs(only, tuple(ARMS), seeds)
    extra_arms = tuple(arm for arm in ARMS if arm not in PUBLISHED_ARMS)
    return [run for arms in [PUBLISHED_ARMS] + [extra_arms] * extra for run in chosen_runs(None, arms, seeds)]


def prepare(root: Path, out: Path, model: str, size: Size) -> dict[str, Any]:
    """Write the data, mine the banks and score the starting model. Existing files are kept.

    Raises:
        ValueError: `out` holds an experiment with different settings, or a file of the data is missing.
    """
    data = out / "data"

    def make() -> dict[str, Any]:
        rows = write_data(root, data, size.data)
        quotas = {
            name: equal_token_quota(model, data, name, size.quota, size.per_query, MAX_LENGTH) for name in TRAIN_FILES
        }
        return {"rows": rows, "quotas_without_negatives": quotas, "max_length": MAX_LENGTH}

    facts = agreed_facts(out, {"model": model, "size": asdict(size)}, make)
    for name in TRAIN_FILES:
        mine(model, out, data, name, candidates=size.candidates, max_length=MAX_LENGTH)
    score_model(model, out, "start", held_out(out), MAX_LENGTH)
    return facts


def held_out(out: Path) -> list[Path]:
    """Folders of the data on which every model is evaluated."""
    return [out / "data" / "retrieval" / name for name in TRAIN_FILES]
