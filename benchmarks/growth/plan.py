"""The plan of a step, the deal of its texts, known positives, and lists of excluded documents, at large sizes.

Seconds and bytes come from separate runs, because following every allocation takes time. Bytes are those of arrays and
Python objects (tracemalloc); for the loss they are those of torch's tensors on the CPU (torch.profiler).
"""

from __future__ import annotations

import gc
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from fused_contrastive import Negatives, RaggedLists, info_nce

from benchmarks.growth.row import Row
from benchmarks.runner.made_tables import made_task
from harness.data.batch.deal import deal
from harness.data.config import NegativesConfig
from harness.data.plan.plan import plan
from harness.data.plan.task import Task

_MICRO_BATCH_TOKENS = 16_384
_RANKS = (1, 8, 1024)


def rows(scale: float = 1.0) -> list[Row]:
    """The rows of this part of the growth table. scale: multiplies the sizes; goals are those of scale 1."""
    texts, table_rows = int(1e6 * scale), int(1e6 * scale)
    many = distinct_task(texts)
    found = [_plan_row(many, world) for world in _RANKS]
    for what, task in (
        ("rows with one query text, each with its own positive", hub_task(table_rows)),
        ("rows with one query text and one positive", hub_task(table_rows, num_positives=1)),
    ):
        size = f"{table_rows:,} {what}; 512 queries a step"
        found.append(_measured("known positives", size, partial(plan, [task], seed=0, step=1), 0.1, 100e6))
    found.append(_excluded_row(int(1e4 * scale), int(1e5 * scale)))
    return found


def distinct_task(num_texts: int) -> Task:
    """A retrieval task of which a step holds `num_texts` distinct texts: queries, positives and negatives alike."""
    row_R = np.arange(2 * num_texts // 3)
    number_RT = np.stack([3 * row_R, 3 * row_R + 1, 3 * row_R + 2], axis=1)
    return made_task("many", "retrieval", number_RT, num_texts // 3, negatives=NegativesConfig(per_query=1))


def hub_task(num_rows: int, *, num_positives: int | None = None, quota: int = 512) -> Task:
    """A retrieval task whose rows all have one query text, and `num_positives` distinct positives (None: all)."""
    row_R = np.arange(num_rows)
    positive_R = row_R if num_positives is None else row_R % num_positives
    number_RT = np.stack([np.zeros_like(row_R), 1 + positive_R], axis=1)
    return made_task("hub", "retrieval", number_RT, quota)


def ragged_case(num_queries: int, num_excluded: int) -> dict[str, Any]:
    """Arguments of `info_nce`: the first query excludes `num_excluded` documents, the others none."""
    generator = torch.Generator().manual_seed(0)
    start_B1 = torch.full((num_queries + 1,), num_excluded)
    start_B1[0] = 0
    return {
        "query_BD": torch.randn(num_queries, 8, generator=generator),
        "document_ND": torch.randn(num_queries + num_excluded, 8, generator=generator),
        "positive_B": torch.arange(num_queries),
        "temperature": 0.05,
        "negatives": Negatives(
            scope="own",  # the other scopes compute B x N similarities, whatever is excluded
            own_BM=torch.arange(num_queries)[:, None] + 1,
            excluded_BX=RaggedLists(start_B1, num_queries + torch.arange(num_excluded)),
        ),
    }


def peak_bytes(compute: Callable[[], object]) -> int:
    """The most bytes of arrays and objects that were in use at a time during the call."""
    gc.collect()
    tracemalloc.start()
    try:
        compute()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def tensor_bytes(compute: Callable[[], object]) -> int:
    """The most bytes of tensors on the CPU that the call had in use at a time."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profiler:
        compute()
    in_use = most = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            in_use += event.nbytes()
            most = max(most, in_use)
    return most


def _plan_row(task: Task, world_size: int) -> Row:
    def compute() -> None:
        step = plan([task], seed=0, step=1)
        deal(step.texts.length_T, world_size, _MICRO_BATCH_TOKENS)

    size = f"{3 * task.quota:,} distinct texts in a step, {world_size:,} ranks"
    return _measured("plan, deal and schedule", size, compute, 2.0, 1e9)


def _excluded_row(num_queries: int, num_excluded: int) -> Row:
    arguments = ragged_case(num_queries, num_excluded)
    size = f"one query with {num_excluded:,} excluded documents beside {num_queries:,} with none"

    def compute() -> None:
        with torch.no_grad():
            info_nce(**arguments, implementation="chunked")

    return _measured("excluded documents in info_nce", size, compute, None, 100e6, tensor_bytes)


def _measured(
    what: str,
    size: str,
    compute: Callable[[], object],
    most_seconds: float | None,
    most_bytes: float,
    measure_bytes: Callable[[Callable[[], object]], int] = peak_bytes,
) -> Row:
    """The row of an operation: its fastest of three runs by CPU seconds, which decide, and the peak of another run."""
    timed = []
    for _ in range(3):
        wall, cpu = time.perf_counter(), time.process_time()
        compute()
        timed.append((time.process_time() - cpu, time.perf_counter() - wall))
    cpu_seconds, seconds = min(timed)
    peak = measure_bytes(compute)
    in_time = most_seconds is None or cpu_seconds < most_seconds
    goal = f"< {most_bytes / 1e6:,.0f} MB"
    if most_seconds is not None:
        goal = f"< {most_seconds:g} s of CPU, {goal}"
    return Row(what, size, seconds, cpu_seconds, peak, goal, in_time and peak < most_bytes)
