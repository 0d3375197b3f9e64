"""Near duplicates of pairs: ordinary texts, and texts of one template, whose pairs all share buckets."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import numpy as np

from benchmarks.growth.row import Row
from benchmarks.runner.on_ranks import Cost, measured, on_ranks

ORDINARY, TEMPLATED = 40_000, 12_500  # pairs
PAIRS_PER_SECOND = 20_000  # the goal, on two ranks
RANKS = 2
_WORDS, _CHANGED = 20_000, 0.1  # different words; share of the pairs that repeat an earlier one with small changes


def rows(scale: float = 1.0) -> list[Row]:
    """Ordinary pairs at one size, and pairs of a template at two sizes, of which the larger one has four times as many.

    scale: of the numbers of pairs.
    """
    count = int(ORDINARY * scale)
    cost, comparisons, dropped = _on_ranks(False, count)
    rate = count / cost.seconds
    size = f"{count:,} pairs of 290 characters, {dropped:,} near duplicates, {RANKS} ranks: {rate:,.0f} pairs/s"
    goal = f">= {PAIRS_PER_SECOND:,} pairs/s"
    table = [_row("near duplicates", size, cost, goal, rate >= PAIRS_PER_SECOND)]
    before: float | None = None
    for count in (int(TEMPLATED * scale), int(4 * TEMPLATED * scale)):
        cost, comparisons, dropped = _on_ranks(True, count)
        per_pair = comparisons / count
        size = f"{count:,} pairs of one template, {dropped:,} near duplicates: {per_pair:,.0f} comparisons a pair"
        met = None if before is None else per_pair <= 1.25 * before
        goal = "" if before is None else f"<= 1.25 x {before:,.0f} comparisons a pair"
        table.append(_row("near duplicates of a template", size, cost, goal, met))
        before = per_pair
    return table


def _row(what: str, size: str, cost: Cost, goal: str, met: bool | None) -> Row:
    return Row(what, size, cost.seconds, cost.cpu_seconds, cost.peak_bytes, goal, met)


def _on_ranks(templated: bool, count: int) -> tuple[Cost, int, int]:
    """(cost: the slowest rank's seconds, all ranks' CPU seconds, the largest peak; comparisons; near duplicates)."""
    with tempfile.TemporaryDirectory() as folder:
        results = on_ranks(RANKS, find, folder, templated, count)
    costs = [cost for cost, _, _ in results]
    seconds, cpu = max(cost.seconds for cost in costs), sum(cost.cpu_seconds for cost in costs)
    return Cost(seconds, cpu, max(cost.peak_bytes for cost in costs)), *results[0][1:]


def find(folder: str, templated: bool, count: int) -> tuple[Cost, int, int]:
    """Runs on a rank: (this rank's cost, number of comparisons, number of near duplicates)."""
    from harness.filtering.config import FilterConfig
    from harness.filtering.near.find import NearDuplicates

    texts = template_texts(count) if templated else ordinary_texts(count)

    def read(pair_E: np.ndarray) -> list[str]:
        return [texts[pair] for pair in pair_E.tolist()]

    stage = NearDuplicates(Path(folder) / "near", count, FilterConfig(), read, lambda *_: None)
    with measured() as cost:
        repeated, compared = stage.find()
    return cost, compared.comparisons, int(repeated.sum())


def template_texts(count: int) -> list[str]:
    """Pairs in the form of `pair_text`, which differ in a number only."""
    query, positive = "order number {} has shipped", "your order number {} has shipped and will arrive soon"
    return [f"{query.format(i)}\n{positive.format(i)}" for i in range(count)]


def ordinary_texts(count: int) -> list[str]:
    """Pairs in the form of `pair_text`: random words; every tenth is an earlier one with small changes."""
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnop", k=draw.randint(2, 9))) for _ in range(_WORDS)]
    texts: list[str] = []
    for _ in range(count):
        if texts and draw.random() < _CHANGED:
            query, positive = draw.choice(texts).split("\n")
            texts.append(f"{query}!\n{positive[:-3]}xyz")
        else:
            texts.append(f"{' '.join(draw.choices(words, k=10))}\n{' '.join(draw.choices(words, k=35))}")
    return texts
