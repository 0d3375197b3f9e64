"""Static hard negatives, dynamic replacement by v1 and v2, and no hard negatives: held-out nDCG@10 on four data sets.

    python -m benchmarks.negatives --data-root DIR --out FOLDER [--size small] [--only ARM:SEED ...] [--extra]
    python -m benchmarks.negatives --out FOLDER --table        # what is finished so far; trains nothing

A run trains stackfaq_en, cranfield_en, cmrc2018_zh and alpaca_en together, retrieval only, from one starting model. All
runs have the same rows, steps and learning rate, those of a seed the same order of queries. `static` keeps the first
window (ranks 10 on) of a bank that `harness mine` makes once, without filters; `v1` and `v2` move on in it. `none` has
more queries instead of negatives, so that its steps have as many tokens. Every run is `harness train`, then `harness
evaluate`, in processes of their own; what is finished is not done again: the same command continues a killed start.
FOLDER gets result.md, result.json and negatives.png.
"""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.negatives.data import TRAIN_FILES, write_data
from benchmarks.negatives.recipes import ARMS, MAX_LENGTH, PUBLISHED_ARMS, SIZES, Size, equal_token_quota, recipe
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


def main() -> None:
    data, sizes_are = "train/, retrieval/ and prompt_response/", "small: a CPU core; full: a GPU"
    parser = experiment_parser(__doc__, data=data, sizes=tuple(SIZES), sizes_are=sizes_are, arms=tuple(ARMS))
    parser.add_argument("--extra", action="store_true", help="v2 without its floor, too, after the others")
    execute(parser, train, write_result)


def train(given: Namespace, out: Path) -> None:
    """The runs asked for."""
    runs, size = runs_in_order(given.only, given.seeds, given.extra), SIZES[given.size]
    quotas = prepare(given.data_root, out, given.model, size)["quotas_without_negatives"]
    make = partial(recipe, size=size, model=given.model, out=out, quotas=quotas)
    run_all(runs, make, out, held_out(out), MAX_LENGTH, given.jobs)


def runs_in_order(only: list[str] | None, seeds: list[int], extra: bool) -> list[tuple[str, int]]:
    """(arm, seed): those of `only`, or the published arms seed by seed, then, if asked for, the extra arm.

    Raises:
        ValueError: `only` names no run.
    """
    if only:
        return chosen_runs(only, tuple(ARMS), seeds)
    others = tuple(arm for arm in ARMS if arm not in PUBLISHED_ARMS)
    return [run for arms in [PUBLISHED_ARMS] + [others] * extra for run in chosen_runs(None, arms, seeds)]


def prepare(root: Path, out: Path, model: str, size: Size) -> dict[str, Any]:
    """Data, banks and the starting model's scores; what stands there already is not made again.

    Raises:
        ValueError: `out` holds an experiment with other settings, or data are missing.
    """
    data = out / "data"

    def make() -> dict[str, Any]:
        rows = write_data(root, data, size.data)
        quotas = {name: equal_token_quota(model, data, name, size.quota, size.per_query) for name in TRAIN_FILES}
        return {"rows": rows, "quotas_without_negatives": quotas, "max_length": MAX_LENGTH}

    facts = agreed_facts(out, {"model": model, "size": asdict(size)}, make)
    for name in TRAIN_FILES:
        mine(model, out, data, name, candidates=size.candidates, max_length=MAX_LENGTH)
    score_model(model, out, "start", held_out(out), MAX_LENGTH)
    return facts


def held_out(out: Path) -> list[Path]:
    """What every model is scored on."""
    return [out / "data" / "retrieval" / name for name in TRAIN_FILES]
