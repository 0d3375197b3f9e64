"""The cost of a step is measured between its start and its end, and nowhere else."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from harness import comm, stopwatch
from harness.engine import step_cost
from harness.engine.step_cost import StepCost, peak_memory_bytes
from harness.stopwatch import stopwatch as process_stopwatch
from harness.types import StepPlan, StepTexts


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that all code reads; only the test moves it."""
    now = [100.0]
    for module in (stopwatch, step_cost):
        monkeypatch.setattr(module.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(stopwatch.torch.cuda, "is_initialized", lambda: False)
    return now


def step_of(lengths: list[int], seconds_waiting: float = 0.0) -> SimpleNamespace:
    zeros = np.zeros(len(lengths), dtype=np.int64)
    plan = StepPlan(3, StepTexts(zeros.astype(np.int32), zeros, np.array(lengths)), ())
    schedule = SimpleNamespace(num_micro_batches=4)
    return SimpleNamespace(plan=plan, seconds_waiting=seconds_waiting, schedule=schedule, graphs_kept=1)


def test_seconds_hold_the_phases_and_the_waiting_but_nothing_before_the_step(clock: list[float]) -> None:
    with process_stopwatch("communication"):  # an evaluation before the step
        clock[0] += 50.0
    cost = StepCost.start()
    with process_stopwatch("embed"):
        clock[0] += 2.0
        with process_stopwatch("communication"):
            clock[0] += 0.25
    clock[0] += 0.25  # time outside of all phases
    metrics = cost.metrics(step_of([5, 10, 25], seconds_waiting=1.5))
    assert {name: value for name, value in metrics.items() if name.startswith("seconds")} == {
        "seconds": 4.0,
        "seconds/data": 1.5,
        "seconds/embed": 2.25,
        "seconds/communication": 0.25,
    }


def test_rates_are_texts_and_tokens_per_second(clock: list[float]) -> None:
    cost = StepCost.start()
    clock[0] += 2.0
    metrics = cost.metrics(step_of([5, 10, 25]))
    assert (metrics["texts_per_second"], metrics["tokens_per_second"]) == (1.5, 20.0)


def test_a_step_without_measurable_time_has_a_rate(clock: list[float]) -> None:
    assert StepCost.start().metrics(step_of([5]))["texts_per_second"] > 0


def test_memory_is_counted_in_bytes() -> None:
    assert 2**24 < peak_memory_bytes() < 2**42
    assert StepCost.start().metrics(step_of([5]))["memory_bytes"] >= peak_memory_bytes() / 2


def test_the_share_of_micro_batches_whose_graph_was_kept_is_a_metric() -> None:
    assert StepCost.start().metrics(step_of([5]))["graphs_kept"] == 0.25


def test_embeddings_of_other_hosts_are_counted_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """4 ranks, 2 on each host: of a gathered table half of the rows come from the other host, its own from none."""
    monkeypatch.setattr(comm, "world_size", lambda: 4)
    monkeypatch.setattr(comm, "_alone", lambda: False)
    monkeypatch.setattr(comm, "_all_gather", lambda table, rows: None)
    for local_size, num_bytes in (("2", 2 * 3 * 8 * 4), ("4", 0)):
        monkeypatch.setenv("LOCAL_SIZE", local_size)
        cost = StepCost.start()
        comm.all_gather_rows(torch.zeros(3, 8))
        assert cost.metrics(step_of([5]))["embedding_bytes_from_other_hosts"] == num_bytes
