"""The negative bank: the ranks that a row uses in each step, and the memory of the bank."""

from __future__ import annotations

import re
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.runner.process import in_own_process
from harness.data.bank.negatives import ListedCandidates, NegativeBank
from tests.dynamic_run import RankedLists

ROWS = np.arange(3)


def listed(score_G: np.ndarray | None = None, offset: int = 0) -> ListedCandidates:
    """Three rows with 1 query each, with 1, 2 and 1 positives and with 2, 0 and 3 negatives."""
    data = SimpleNamespace(
        row_start_R1=np.array([0, 4, 7, 12]), num_positives_R=np.array([1, 2, 1], np.uint16), document_score_G=score_G
    )
    return ListedCandidates(data, offset)  # type: ignore[arg-type]


def test_the_lists_of_a_file_are_its_negatives_in_their_order() -> None:
    candidates = listed()
    assert candidates.count(ROWS).tolist() == [2, 0, 3]
    rank_BM = np.array([[0, 1, 2], [0, 1, 2], [2, 0, 3]])
    assert candidates.text_ids(ROWS, rank_BM).tolist() == [[2, 3, -1], [-1, -1, -1], [11, 9, -1]]
    assert np.isnan(candidates.scores(ROWS, rank_BM)).all()


def test_the_scores_of_a_file_are_those_of_its_negatives() -> None:
    scores = listed(np.arange(12) / 16).scores(ROWS, np.array([[0, 1], [0, 1], [2, 3]]))
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, np.array([[2, 3], [np.nan, np.nan], [11, np.nan]]) / 16)


def test_the_first_window_begins_at_the_offset() -> None:
    bank = NegativeBank(3, listed(offset=1), 2)
    rank_BM = bank.ranks(ROWS)
    assert rank_BM.tolist() == [[1, 2]] * 3
    assert bank.candidates.text_ids(ROWS, rank_BM).tolist() == [[3, -1], [-1, -1], [10, 11]]


def test_the_start_is_the_first_valid_similarity_of_each_slot() -> None:
    bank = NegativeBank(3, RankedLists([9] * 3), 2)
    bank.start(np.array([2, 0]), np.array([[0.5, 0.25], [0.75, 1.0]]), np.array([[True, False], [True, True]]))
    bank.start(np.array([2]), np.array([[0.0, 0.0]]), np.array([[True, True]]))
    np.testing.assert_array_equal(bank.starts(ROWS), [[0.75, 1.0], [np.nan, np.nan], [0.5, 0.0]])


def replaced_bank() -> NegativeBank:
    """A bank of three rows. In rows 0 and 2 the second slot was replaced: ranks [0, 2]."""
    bank, rows = NegativeBank(3, RankedLists([4, 4, 4]), 2), np.array([0, 2])
    bank.replace(rows, bank.next_ranks(rows, np.array([[False, True]] * 2), wrap=False), first_step=7)
    return bank


def test_next_ranks_are_for_the_leaving_slots_in_order_and_end_with_the_list() -> None:
    bank = replaced_bank()
    every = np.ones((3, 2), dtype=bool)
    assert bank.next_ranks(ROWS, every, wrap=False).tolist() == [[3, -1], [2, 3], [3, -1]]
    assert bank.next_ranks(ROWS, every, wrap=True).tolist() == [[3, 1], [2, 3], [3, 1]]
    assert bank.next_ranks(ROWS, ~every, wrap=True).tolist() == [[-1, -1]] * 3


def test_a_replacement_touches_its_rows_and_slots_only() -> None:
    bank = NegativeBank(3, RankedLists([4, 4, 4]), 2)
    bank.start(ROWS, np.full((3, 2), 0.5), np.ones((3, 2), dtype=bool))
    bank.replace(ROWS, np.array([[-1, 2], [-1, -1], [2, 3]]), first_step=1)
    assert bank.ranks(ROWS).tolist() == [[0, 2], [0, 1], [2, 3]]
    assert bank.num_replaced(ROWS).tolist() == [1, 0, 1]
    np.testing.assert_array_equal(bank.starts(ROWS), [[0.5, np.nan], [0.5, 0.5], [np.nan, np.nan]])


def test_what_no_step_can_ask_for_any_more_is_forgotten() -> None:
    bank = replaced_bank()
    bank.forget_before(6)
    assert bank.ranks(ROWS, 6).tolist() == [[0, 1]] * 3
    assert bank.state()["late_row"].tolist() == [0, 2]
    bank.forget_before(7)
    assert bank.state()["late_row"].tolist() == []
    assert bank.ranks(ROWS, 7).tolist() == [[0, 2], [0, 1], [0, 2]]


def test_a_plan_made_while_a_decision_is_written_is_that_made_before() -> None:
    """The next step is planned in another thread."""
    every, rows, slots = np.ones((64, 4), dtype=bool), np.arange(64), 4
    bank = NegativeBank(64, RankedLists([100_000] * 64), slots)
    wrong, asked, ended = [], [(0, bank.ranks(rows))], False

    def plan() -> None:
        while not ended:
            step, expected = asked[-1]
            found = bank.ranks(rows, step)
            if asked[-1][0] == step and not np.array_equal(found, expected):
                wrong.append(step)

    interval, planner = sys.getswitchinterval(), threading.Thread(target=plan)
    sys.setswitchinterval(1e-6)
    planner.start()
    for step in range(1, 2000):
        asked.append((step + 1, bank.ranks(rows, step + 1)))
        bank.replace(rows, bank.next_ranks(rows, every, wrap=False), first_step=step + 2)
        bank.forget_before(step)
    ended = True
    planner.join()
    sys.setswitchinterval(interval)
    assert not wrong


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's own figures")
def test_memory_follows_the_queries_that_were_used_not_all_there_are() -> None:
    """40 MB for ten million rows, and 72 bytes for each row that was used. Arrays over all rows would take 680 MB.

    In a process of its own: in this one a new array may lie in memory that other tests have freed.
    """
    unused, used = in_own_process(memory_of_a_bank)
    assert unused < 5
    assert used < 90


def memory_of_a_bank() -> tuple[float, float]:
    """MB that a bank of ten million queries takes before any is used, and after 100,000 are."""
    num_rows = 10_000_000
    rows = np.random.default_rng(0).choice(num_rows, 100_000, replace=False, shuffle=False)
    rows.sort()
    candidates = SimpleNamespace(offset=0, count=lambda row_B: np.full(len(row_B), 100))
    before = resident_mb()
    bank = NegativeBank(num_rows, candidates, 7)  # type: ignore[arg-type]
    unused = resident_mb() - before
    for block in np.array_split(rows, 20):
        every = np.ones((len(block), 7), dtype=bool)
        bank.start(block, np.zeros((len(block), 7)), every)
        bank.replace(block, bank.next_ranks(block, every, wrap=False), first_step=1)
        bank.forget_before(1)
    return unused, resident_mb() - before


def resident_mb() -> float:
    found = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024
