"""A run in which negatives cannot change, or are missing, says so at its start and names the setting to change."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from harness.data.bank.history import BankHistory
from harness.data.bank.negatives import NegativeBank
from harness.mining.config import MiningConfig
from harness.mining.ineffective_settings import empty_window_message, ineffective_rule_message, nothing_compared_message
from tests.dynamic_run import RankedLists, Run

NAN = np.nan


def test_a_rule_that_compares_is_not_told_to_look_ahead() -> None:
    """It would be refused."""
    for settings in ({}, {"remine": {"every": 5}}):
        words = str(message(5 if not settings else 50, rule="relative", **settings))
        assert "; raise " in words
        assert "upcoming" not in words


def test_the_only_query_of_a_step_has_nothing_to_be_compared_with() -> None:
    """Its negatives would never have a quantile, and none would ever be easy."""

    def message_of(quota: int, scope: str = "task", balance: str = "cbb", rule: str = "relative") -> str | None:
        bank = BankHistory(NegativeBank(40, RankedLists([9] * 40, 0), 2))
        faq = SimpleNamespace(config=SimpleNamespace(name="faq", scope=scope), quota=quota, bank=bank)
        other = SimpleNamespace(config=SimpleNamespace(name="other", scope="own"), quota=1, bank=None)
        return nothing_compared_message(MiningConfig(rule=rule), [faq, other], balance)

    assert message_of(1) == (
        "mining.quantile changes nothing (task faq: a step holds one query, so there is no other document to compare "
        "its negatives with); raise quota, or set negatives.scope: step"
    )
    assert str(message_of(1, "step", "alternate")).endswith("; raise quota")
    for settings in ((2,), (1, "step"), (1, "task", "homogeneous"), (1, "task", "cbb", "v2")):
        assert message_of(*settings) is None


def test_a_task_whose_rows_have_no_negatives_of_their_own_is_told_so() -> None:
    def message_of(counts: list[int], slots: int, **remine: object) -> str | None:
        config = MiningConfig(remine=remine)
        bank = BankHistory(NegativeBank(len(counts), RankedLists(counts, 10), slots))
        data = SimpleNamespace(num_rows=len(counts))
        return empty_window_message(config, [SimpleNamespace(config=SimpleNamespace(name="faq"), bank=bank, data=data)])

    assert message_of([9, 10, 11, 99], 2) == (
        "task faq: 2 of 4 rows have no candidate from rank 10 on and train without negatives of their own, though "
        "negatives.per_query is 2; lower negatives.offset, give a bank of harness mine, set mining.remine.at_start, or "
        "per_query: 0"
    )
    assert message_of([9, 11, 11, 99], 2) is None
    assert message_of([9, 10, 11, 99], 0) is None
    assert message_of([0, 0, 0, 0], 2, at_start=True) is None  # the lists in the data do not count


def message(num_steps: int, *, slots: int = 2, score_RC=None, balance="cbb", other_quota=1, **mining) -> str | None:
    """The message of a run with 40 rows, 8 in a step, and a second task without negatives."""
    num_rows, quota = 40, 8
    bank = BankHistory(NegativeBank(num_rows, RankedLists([9] * num_rows, 0, score_RC), slots))

    def task(name: str, quota: int, bank: BankHistory | None, num_rows: int) -> SimpleNamespace:
        config, data = SimpleNamespace(name=name), SimpleNamespace(num_rows=num_rows)
        return SimpleNamespace(config=config, quota=quota, bank=bank, data=data)

    tasks = [task("faq", quota, bank, num_rows), task("pairs", other_quota, None, 900)]
    return ineffective_rule_message(MiningConfig(**mining), tasks, num_steps, balance)


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
    """alternate: 8 of 9 steps are steps of faq, with 8 of its 40 rows each. An epoch takes 45 / 8 steps."""
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
    """8 queries with 2 negatives are 24 texts per step. A check every 2 steps must look more than 2 steps ahead."""
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
    """Ranking scores let a negative be replaced at its query's first use, but the new one is used at the second."""
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
