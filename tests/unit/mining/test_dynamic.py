"""Dynamic replacement in training: which negatives a query has at which step, by hand-computed cases."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from harness.data.bank.history import BankHistory
from harness.data.bank.negatives import NegativeBank
from harness.mining.config import MiningConfig
from harness.mining.dynamic import METRICS
from harness.mining.ineffective_settings import empty_window_message, idle_rule_message
from tests.dynamic_run import RankedLists, Run

NAN = np.nan


def replaced(metrics: dict[str, float]) -> tuple[float, float]:
    return metrics["negatives_replaced"], metrics["negatives_exhausted"]


def test_v1_moves_through_the_windows_from_the_offset_on_and_keeps_the_last() -> None:
    """[offset + i n, offset + (i + 1) n): 8 candidates, offset 1, n = 2 make three windows; rank 7 is one alone."""
    run = Run([8], 2, offset=1, rule="v1", interval=1)
    step, windows = 1, [run.ranks(1)]
    for _ in range(3):
        assert replaced(run.step(step, {0: [0.5, 0.5]})) == (0, 0)  # first use: S0
        assert replaced(run.step(step + 1, {0: [0.4, 0.4]})) in [(2, 0), (0, 2)]  # 1.15 * 0.4 = 0.46 < 0.5
        step += 3
        windows.append(run.ranks(step))
    assert windows == [[1, 2], [3, 4], [5, 6], [5, 6]]
    assert run.bank.num_replaced(np.array([0])) == 2


def test_the_start_of_a_new_window_is_its_own_first_use() -> None:
    """0.4 would be easy against the old window's 0.5; the new window begins with it, and is easy from 0.34 on."""
    run = Run([6], 2, rule="v1", interval=1)
    run.step(1, {0: [0.5, 0.5]})
    assert replaced(run.step(2, {0: [0.4, 0.4]})) == (2, 0)
    assert np.isnan(run.start()).all()
    assert replaced(run.step(4, {0: [0.375, 0.375]})) == (0, 0)
    assert run.start() == [0.375, 0.375]
    assert replaced(run.step(5, {0: [0.34, 0.34]})) == (0, 0)  # 1.15 * 0.34 = 0.391
    assert replaced(run.step(6, {0: [0.32, 0.32]})) == (2, 0)  # 1.15 * 0.32 = 0.368


def test_the_clock_judges_what_was_seen_since_the_last_check_by_its_last_similarity() -> None:
    run = Run([4, 4, 4], 2, rule="v1", interval=3)
    run.step(1, {0: [0.5, 0.5], 1: [0.5, 0.5], 2: [0.5, 0.5]})
    assert replaced(run.step(2, {0: [0.3, 0.3], 1: [0.3, 0.3]})) == (0, 0)  # no check
    assert replaced(run.step(3, {1: [0.5, 0.5]})) == (2, 0)  # row 0; row 1 has become hard again
    assert [run.ranks(5, row) for row in range(3)] == [[2, 3], [0, 1], [0, 1]]
    run.step(4, {0: [0.5, 0.5]})  # the old window, seen before the new one is
    run.step(5, {2: [0.3, 0.3]})
    assert replaced(run.step(6, {})) == (2, 0)  # row 2, in a step without the task
    assert replaced(run.step(9, {})) == (0, 0)


def test_a_query_not_seen_since_the_last_check_is_not_judged_again() -> None:
    """Its list is exhausted, so it stays easy: reported by the check that saw it, and by no other."""
    run = Run([2], 2, rule="v1", interval=2)
    run.step(1, {0: [0.5, 0.5]})
    assert replaced(run.step(2, {0: [0.1, 0.1]})) == (0, 2)
    run.step(3, {})
    assert replaced(run.step(4, {})) == (0, 0)
    run.step(5, {0: [0.1, 0.1]})
    assert replaced(run.step(6, {})) == (0, 2)


@pytest.mark.parametrize("delay", [1, 3])
def test_a_decision_is_seen_from_step_t_plus_1_plus_delay_on_and_not_earlier(delay: int) -> None:
    """Decisions on other slots of the row, and on another row, follow before the first is in force."""
    run = Run([9, 9], 3, rule="v2", delay=delay)
    run.step(1, {0: [0.6, 0.6, 0.6], 1: [0.6, 0.6, 0.6]})
    run.step(2, {0: [0.55, 0.45, 0.6]})  # slot 1 → 3
    run.step(3, {0: [0.6, 0.45, 0.45], 1: [0.45, 0.6, 0.45]})  # slot 2 → 4; in row 1, slots 0 and 2 → 3 and 4
    run.step(4, {0: [0.45, 0.5, 0.45]})  # slot 0 → 5
    decided = {2: [0, 3, 2], 3: [0, 3, 4], 4: [5, 3, 4]}
    for step in range(5, 13):
        in_force = [ranks for t, ranks in decided.items() if t + 1 + delay <= step]
        assert run.ranks(step) == [[0, 1, 2], *in_force][-1]
        assert run.ranks(step, 1) == ([3, 1, 4] if step >= 4 + delay else [0, 1, 2])


@pytest.mark.parametrize("rule", ["v1", "v2"])
def test_an_observation_with_the_old_ranks_is_neither_start_nor_similarity_of_the_new_ones(rule: str) -> None:
    """Three steps still hold the old negatives; their similarity would be a start that all later ones pass or fail."""
    run = Run([4], 2, rule=rule, interval=1, delay=3)
    run.step(1, {0: [0.6, 0.6]})
    assert replaced(run.step(2, {0: [0.5, 0.5] if rule == "v1" else [0.45, 0.45]})) == (2, 0)
    for step, old in ((3, 0.9), (4, 0.1), (5, 0.6)):
        metrics = run.step(step, {0: [old, old]})
        assert replaced(metrics) == (0, 0)
        assert metrics["negative_similarity_start"] == 0
        assert np.isnan(run.start()).all()
    assert run.step(6, {0: [0.5, 0.5]})["negative_similarity_start"] == 0.5
    assert run.start() == [0.5, 0.5]
    assert run.ranks(7) == [2, 3]


def test_an_old_observation_of_one_slot_leaves_the_others_watched() -> None:
    run = Run([9], 2, rule="v2", delay=3)
    run.step(1, {0: [0.6, 0.6]})
    assert replaced(run.step(2, {0: [0.45, 0.6]})) == (1, 0)
    assert replaced(run.step(3, {0: [0.45, 0.45]})) == (1, 0)
    assert run.ranks(7) == [2, 3]


@pytest.mark.parametrize("rule", ["v1", "v2"])
def test_empty_slots_are_never_judged_and_never_replaced(rule: str) -> None:
    """The loss gives 0 for a slot without a candidate: as S0 it would be below v2's floor, in v1's mean a drop."""
    run = Run([2, 0], 3, rule=rule, interval=1)
    for step in (1, 2, 3):
        metrics = run.step(step, {0: [0.5, 0.5, 0.0], 1: [0.0, 0.0, 0.0]})
        assert replaced(metrics) == (0, 0)
        assert metrics["negative_similarity_start"] == 0.5
    assert run.start()[:2] == [0.5, 0.5]
    assert np.isnan([run.start()[2], *run.start(1)]).all()
    assert replaced(run.step(4, {0: [0.1, 0.1, 0.0], 1: [0.0, 0.0, 0.0]})) == (0, 2)
    assert (run.ranks(9), run.ranks(9, 1)) == ([0, 1, 2], [0, 1, 2])


def test_several_slots_of_v2_take_the_next_ranks_in_their_order() -> None:
    run = Run([9], 3, offset=1, rule="v2")
    run.step(1, {0: [0.3, 0.6, 0.3]})
    assert run.ranks(3) == [4, 2, 5]
    run.step(3, {0: [0.6, 0.45, 0.6]})
    assert run.ranks(5) == [4, 6, 5]


def test_v2_replaces_as_many_as_are_left_and_counts_the_others_as_exhausted() -> None:
    run = Run([5], 3, rule="v2")
    assert replaced(run.step(1, {0: [0.3, 0.3, 0.3]})) == (2, 1)
    assert run.ranks(3) == [3, 4, 2]
    assert replaced(run.step(3, {0: [0.6, 0.6, 0.3]})) == (0, 1)


def test_v1_keeps_a_window_whose_successor_would_not_be_full() -> None:
    run = Run([5], 3, rule="v1", interval=1)
    run.step(1, {0: [0.5, 0.5, 0.5]})
    assert replaced(run.step(2, {0: [0.3, 0.3, 0.3]})) == (0, 3)
    assert run.ranks(9) == [0, 1, 2]


def test_v1_wraps_to_the_offset_and_passes_over_the_ranks_in_use() -> None:
    """Offset 1, six ranks in the circle, windows of 2, then of 4, which is more than the circle has free."""
    run, windows = Run([7], 2, offset=1, rule="v1", interval=1, exhausted="wrap"), []
    for step in range(1, 16, 3):
        windows.append(run.ranks(step))
        run.step(step, {0: [0.5, 0.5]})
        assert replaced(run.step(step + 1, {0: [0.3, 0.3]})) == (2, 0)
    assert windows == [[1, 2], [3, 4], [5, 6], [1, 2], [3, 4]]
    run = Run([7], 4, offset=1, rule="v1", interval=1, exhausted="wrap")
    run.step(1, {0: [0.5] * 4})
    assert replaced(run.step(2, {0: [0.3] * 4})) == (0, 4)


def test_v2_wraps_and_never_holds_a_candidate_twice() -> None:
    """Slot 0 alone goes round a circle of five, over what slots 1 and 2 hold, again and again."""
    run, taken = Run([5], 3, rule="v2", exhausted="wrap"), []
    for step in range(1, 16, 2):
        taken.append(run.ranks(step)[0])
        assert len(set(run.ranks(step))) == 3
        assert replaced(run.step(step, {0: [0.3, 0.6, 0.6]})) == (1, 0)
    assert taken == [0, 3, 4, 0, 3, 4, 0, 3]


def test_a_row_that_comes_twice_in_a_step_is_judged_once() -> None:
    run = Run([4], 2, rule="v1", interval=1)
    for step, similarity in ((1, 0.5), (2, 0.3)):
        plan = run.plan(step, [0, 0])
        similarities = {"faq": np.full((2, 2), similarity)}
        metrics = run.negatives.observe(plan, similarities, run.look_ahead, run.rerank)
    assert replaced(metrics) == (2, 0)


def test_the_start_may_be_the_ranking_score() -> None:
    """First use is then judged already; a candidate that was not scored has no start and stays."""
    run = Run([4, 4], 2, score_RC=np.array([[0.6, 0.6, 0.6, NAN], [NAN] * 4]), rule="v2", start="ranking")
    metrics = run.step(1, {0: [0.45, 0.55], 1: [0.1, 0.1]})
    assert replaced(metrics) == (1, 0)
    assert metrics["negative_similarity_start"] == np.float32(0.6)
    assert replaced(run.step(3, {0: [0.45, 0.55], 1: [0.1, 0.1]})) == (1, 0)
    assert replaced(run.step(5, {0: [0.1, 0.55], 1: [0.1, 0.1]})) == (0, 0)
    assert (run.ranks(7), run.ranks(7, 1)) == ([3, 1], [0, 1])


def test_a_checkpoint_holds_what_the_next_check_needs() -> None:
    """Taken between two checks, with a decision not yet in force: S0, S, the window and the old one."""
    run = Run([6, 6], 2, rule="v1", interval=2)
    run.step(1, {0: [0.5, 0.5], 1: [0.5, 0.5]})
    run.step(2, {0: [0.3, 0.3]})
    run.step(3, {1: [0.3, 0.3]})
    run.reload()
    assert [run.ranks(step) for step in (3, 4)] == [[0, 1], [2, 3]]
    assert replaced(run.step(4, {})) == (2, 0)
    assert run.ranks(6, 1) == [2, 3]


def test_the_mean_start_is_over_the_negatives_that_are_watched() -> None:
    run = Run([9, 9], 2, rule="v1")
    assert run.step(1, {0: [0.5, 0.25]})["negative_similarity_start"] == 0.375
    assert run.step(2, {0: [0.9, 0.9], 1: [0.75, 0.5]})["negative_similarity_start"] == 0.5


def test_similarity_and_start_are_means_over_the_same_negatives() -> None:
    """Slot 0 is replaced at step 1; its successor has no start when step 2, planned before, is seen."""
    run = Run([9], 2, rule="v2", floor=0.3)
    run.step(1, {0: [0.25, 0.5]})
    metrics = run.step(2, {0: [0.2, 0.5]})
    assert (metrics["negative_similarity_watched"], metrics["negative_similarity_start"]) == (0.5, 0.5)


def test_a_task_whose_rows_have_no_negatives_of_their_own_is_told_so() -> None:
    def message_of(counts: list[int], slots: int) -> str | None:
        bank = BankHistory(NegativeBank(len(counts), RankedLists(counts, 10), slots))
        data = SimpleNamespace(num_rows=len(counts))
        return empty_window_message([SimpleNamespace(config=SimpleNamespace(name="faq"), bank=bank, data=data)])

    assert message_of([9, 10, 11, 99], 2) == (
        "task faq: 2 of 4 rows have no candidate from rank 10 on and train without negatives of their own, though "
        "negatives.per_query is 2; lower negatives.offset, give a bank of harness mine, or set per_query: 0"
    )
    assert message_of([9, 11, 11, 99], 2) is None
    assert message_of([9, 10, 11, 99], 0) is None


def test_without_a_rule_nothing_is_watched_and_the_metrics_are_zeros() -> None:
    run = Run([9], 2, rule="none")
    for step in range(1, 4):
        only = {**dict.fromkeys(METRICS, 0.0), "negative_similarity_watched": float(np.float32(0.1))}
        assert run.step(step, {0: [0.1, 0.1]}) == only
    assert run.ranks(99) == [0, 1]
    assert np.isnan(run.start()).all()


def message(num_steps: int, *, slots: int = 2, score_RC=None, balance="cbb", other_quota=1, **mining) -> str | None:
    """Of a run over 40 rows, 8 of them a step, beside a task without negatives."""
    num_rows, quota = 40, 8
    bank = BankHistory(NegativeBank(num_rows, RankedLists([9] * num_rows, 0, score_RC), slots))

    def task(name: str, quota: int, bank: BankHistory | None, num_rows: int) -> SimpleNamespace:
        config, data = SimpleNamespace(name=name), SimpleNamespace(num_rows=num_rows)
        return SimpleNamespace(config=config, quota=quota, bank=bank, data=data)

    tasks = [task("faq", quota, bank, num_rows), task("pairs", other_quota, None, 900)]
    return idle_rule_message(MiningConfig(**mining), tasks, num_steps, balance)


def test_a_run_in_which_no_query_comes_twice_is_told_so() -> None:
    often = {"rule": "v1", "interval": 1}
    assert message(5, **often) == (
        "mining.rule v1 changes nothing (task faq: no query comes twice in 5 steps of 8 of its 40 rows; set "
        "mining.check: upcoming, or raise training.steps above 5)"
    )
    assert message(6, **often) is None
    assert message(5, rule="none") is None
    assert message(5, **often, slots=0) == (
        "mining.rule v1 changes nothing (no task has ranked negatives; set negatives.per_query)"
    )


def test_a_task_that_is_drawn_seldom_is_counted_by_its_turns() -> None:
    """alternate: 8 of 9 steps are faq's, 8 of its 40 rows each: 45 / 8 steps make an epoch."""
    often = {"rule": "v1", "interval": 1, "balance": "alternate"}
    assert "raise training.steps above 5)" in str(message(5, **often))
    assert message(6, **often) is None
    even = {"rule": "v1", "interval": 1, "balance": "alternate", "other_quota": 8}
    assert "raise training.steps above 10)" in str(message(10, **even))
    assert message(11, **even) is None


def test_a_run_whose_rankings_come_before_a_query_comes_again_is_told_so() -> None:
    often = {"rule": "v1", "interval": 1}
    assert "raise mining.remine.every above 5)" in str(message(50, **often, remine={"every": 5}))
    assert message(50, **often, remine={"every": 6}) is None


def test_a_look_ahead_that_does_not_reach_a_query_twice_is_told_so() -> None:
    """8 queries with 2 negatives are 24 texts a step; a check every 2 steps must look more than 2 steps ahead."""
    ahead = {"rule": "v2", "interval": 2, "check": "upcoming"}
    assert "reach 2 steps of 24 texts ahead; raise mining.budget above 48" in str(message(5, **ahead, budget=48))
    assert message(5, **ahead, budget=49) is None
    assert message(6, **ahead, budget=48) is None  # queries come again
    assert "holds no query with its negatives; raise it to 3" in str(message(9, **ahead, budget=2))


def test_a_run_that_ends_before_a_first_decision_counts_is_told_so() -> None:
    assert message(101, rule="v1") == (
        "mining.rule v1 changes nothing (its first decision, after step 100, counts from step 102 of 101 on; lower "
        "mining.interval or raise training.steps)"
    )
    assert message(102, rule="v1") is None


def test_ranking_scores_do_not_help_a_run_in_which_no_query_comes_twice() -> None:
    """They are a start for the first use already, but the replaced negative would be used at the second."""
    scores = np.full((40, 9), 0.9)
    assert "training.steps above 5" in str(message(5, rule="v2", start="ranking", score_RC=scores))
    run, replaced = Run([9] * 40, 2, score_RC=scores, rule="v2", start="ranking"), 0.0
    order = np.random.default_rng(0).permutation(40).reshape(5, 8).tolist()
    for step, rows in enumerate(order, start=1):
        assert run.plan(step, rows).parts[0].rank_BM.tolist() == [[0, 1]] * 8
        replaced += run.step(step, {row: [0.1, 0.1] for row in rows})["negatives_replaced"]
    assert replaced == 80
    assert run.plan(6, order[0]).parts[0].rank_BM.tolist() == [[2, 3]] * 8


def test_ranking_as_start_without_scores_is_told_so() -> None:
    assert "no scores for mining.start: ranking" in str(message(99, rule="v2", start="ranking"))
    last_only = np.full((40, 9), NAN)
    last_only[39, 1] = 0.5
    assert message(99, rule="v2", start="ranking", score_RC=last_only) is None
