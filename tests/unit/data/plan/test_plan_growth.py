"""What a plan costs grows with its texts and with the rows of its distinct queries, by counts of rows and bytes."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.growth.plan import distinct_task, hub_task, peak_bytes
from benchmarks.runner.made_tables import made_task
from harness.data.batch import micro_batches
from harness.data.batch.deal import deal
from harness.data.config import NegativesConfig
from harness.data.plan import nothing_to_learn as module
from harness.data.plan.plan import plan
from harness.data.plan.query_texts import RowsOfTexts


@pytest.mark.parametrize("num_positives", [1, 50, None])
def test_rows_of_one_query_are_visited_once_however_many_queries_a_step_holds(
    num_positives: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    visited, visit = [], RowsOfTexts._visit

    def counting(rows, chosen_Z):
        for text, row in visit(rows, chosen_Z):
            visited.append(len(row))
            yield text, row

    monkeypatch.setattr(RowsOfTexts, "_visit", counting)
    task = hub_task(20_000, num_positives=num_positives, quota=256)
    part = plan([task], seed=0, step=1).parts[0]
    num_documents = len(part.document_N) - 1  # without the query's own positive
    assert len(part.excluded_pairs()[0]) == 256 * num_documents  # the rows and the step hold the same documents
    assert 20_000 <= sum(visited) <= 40_000


def test_many_rows_of_one_query_need_the_memory_of_some_rows_at_a_time() -> None:
    """Rows x queries would be 4 x 10^5 x 64 x 8 bytes: 205 MB."""
    task = hub_task(400_000, quota=64)
    assert peak_bytes(lambda: plan([task], seed=0, step=1)) < 25e6


@pytest.mark.parametrize("num_texts", [30_000, 90_000])
def test_a_plan_and_its_schedule_need_some_hundred_bytes_a_text(num_texts: int) -> None:
    """So 10^6 texts need less than 1 GB; the first text ids and hashes alone are 32 bytes."""
    task = distinct_task(num_texts)

    def compute() -> None:
        step = plan([task], seed=0, step=1)
        assert len(step.texts) == num_texts
        deal(step.texts.length_T, 8, 16_384)

    assert peak_bytes(compute) < 600 * num_texts


def test_ranks_with_equal_padded_lengths_share_one_split(monkeypatch: pytest.MonkeyPatch) -> None:
    splits, split = [], micro_batches._cheapest_starts
    monkeypatch.setattr(micro_batches, "_cheapest_starts", lambda *given: splits.append(1) or split(*given))
    deal(np.random.default_rng(0).integers(4, 128, 20_000), 512, 16_384)
    assert 0 < len(splits) < 512  # up to twelve deals are tried, each with 512 ranks


def test_no_further_step_is_examined_for_warnings_after_many_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small task beside a large one would otherwise be examined in 64 large steps before the first sign of life."""
    row_R = np.arange(2_000)
    small = made_task("small", "retrieval", np.stack([row_R, row_R + 10**6], axis=1), 1)
    large = made_task(
        "large",
        "classification",
        row_R[:, None] + 10**7,
        1_000,
        label_R=row_R % 7,
        negatives=NegativesConfig(per_query=1),
    )
    steps, planned = [], module.plan
    monkeypatch.setattr(module, "plan", lambda tasks, **step: steps.append(step["step"]) or planned(tasks, **step))
    monkeypatch.setattr(module, "LOOKED_AT_QUERIES", 10**9)
    monkeypatch.setattr(module, "LOOKED_AT_TEXTS", 5_000)
    module.nothing_to_learn([small, large], seed=0, balance="cbb", num_steps=100)
    assert 1 < len(steps) < 6
