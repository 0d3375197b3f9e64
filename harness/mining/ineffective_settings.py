"""Settings under which a rule cannot change what a run trains on: said at start, with the way out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.data.bank.history import BankHistory
from harness.data.bank.negatives import NegativeBank
from harness.data.plan.task import Task
from harness.mining.config import MiningConfig
from harness.mining.rules import Rule
from harness.types import Balance

_ROWS = 65_536  # looked at together


def idle_rule_message(
    config: MiningConfig, tasks: Sequence[Task], num_steps: int, balance: Balance = "cbb"
) -> str | None:
    """Why the rule cannot change what a run, or some of its tasks, trains on, with the way out; None if it can in all.

    A decision counts some steps later, a replaced negative when its query comes again; S0 needs a first use or a score.
    What is learned of a query is lost when its candidates are ranked anew.
    """
    rule = Rule.of(config)
    if rule is None:
        return None
    watched = [(task, task.bank) for task in tasks if task.bank is not None and task.bank.num_slots]
    if not watched:
        return f"mining.rule {config.rule} changes nothing (no task has ranked negatives; set negatives.per_query)"
    found = _clock(config, rule, num_steps)
    all_quotas = sum(task.quota for task in tasks)
    for task, bank in watched:
        # alternate: a turn in proportion to quota, and quota examples in it; in the other modes quota a step on average
        per_step = task.quota * (task.quota / all_quotas if balance == "alternate" else 1)
        problem = _seen(config, task, per_step, num_steps) if config.check == "seen" else None
        problem = problem or _first_score(config, task, bank)
        found += [f"task {task.config.name}: {problem}"] if problem else []
    if config.check == "upcoming":
        found += _reach(config, rule, watched, num_steps)
    return f"mining.rule {config.rule} changes nothing ({'; '.join(found)})" if found else None


def empty_window_message(tasks: Sequence[Task]) -> str | None:
    """Which tasks ask for negatives of their own that many rows do not have; None if there are none."""
    found = []
    for task in tasks:
        if task.bank is None or not task.bank.num_slots:
            continue
        candidates, num_rows = task.bank.newest.candidates, task.data.num_rows
        blocks = (np.arange(first, min(first + _ROWS, num_rows)) for first in range(0, num_rows, _ROWS))
        empty = sum(int((candidates.count(row_B) <= candidates.offset).sum()) for row_B in blocks)
        if 2 * empty >= num_rows:
            found.append(
                f"task {task.config.name}: {empty:,} of {num_rows:,} rows have no candidate from rank "
                f"{candidates.offset} on and train without negatives of their own, though negatives.per_query is "
                f"{task.bank.num_slots}; lower negatives.offset, give a bank of harness mine, or set per_query: 0"
            )
    return "; ".join(found) or None


def _clock(config: MiningConfig, rule: Rule, num_steps: int) -> list[str]:
    if num_steps > rule.interval + config.delay:
        return []
    return [
        f"its first decision, after step {rule.interval}, counts from step {rule.interval + 1 + config.delay} of "
        f"{num_steps} on; lower mining.interval or raise training.steps"
    ]


def _seen(config: MiningConfig, task: Task, per_step: float, num_steps: int) -> str | None:
    """Whether queries come twice while what is known of them holds."""
    every, num_rows = config.remine.every, task.data.num_rows
    if num_steps * per_step <= num_rows:
        return (
            f"no query comes twice in {num_steps} steps of {per_step:g} of its {num_rows} rows; set mining.check: "
            f"upcoming, or raise training.steps above {int(num_rows / per_step)}"
        )
    if every and every * per_step <= num_rows:
        return (
            f"no query comes twice in the {every} steps between two rankings, {per_step:g} of its {num_rows} rows a "
            f"step; set mining.check: upcoming, or raise mining.remine.every above {int(num_rows / per_step)}"
        )
    return None


def _first_score(config: MiningConfig, task: Task, bank: BankHistory) -> str | None:
    if config.start != "ranking" or _has_scores(bank.newest, task.data.num_rows):
        return None
    return "its candidates have no scores for mining.start: ranking; set first_use, or make a bank with harness mine"


def _reach(config: MiningConfig, rule: Rule, watched: Sequence[tuple[Task, BankHistory]], num_steps: int) -> list[str]:
    """Whether checks look far enough ahead for a query to be scored, and scored twice if that is what S0 needs."""
    dearest = max(1 + bank.num_slots for _, bank in watched)
    if config.budget < dearest:
        return [f"mining.budget {config.budget} holds no query with its negatives; raise it to {dearest} at least"]
    texts = sum(task.quota * (1 + bank.num_slots) for task, bank in watched)
    once = [task.config.name for task, _ in watched if num_steps * task.quota <= task.data.num_rows]
    if not once or config.start == "ranking" or config.budget > rule.interval * texts:
        return []
    return [
        f"{', '.join(once)}: no query is scored twice before its one use: checks every {rule.interval} steps with "
        f"mining.budget {config.budget} reach {config.budget // texts} steps of {texts} texts ahead; raise "
        f"mining.budget above {rule.interval * texts}, lower mining.interval, or set mining.start: ranking"
    ]


def _has_scores(bank: NegativeBank, num_rows: int) -> bool:
    blocks = (np.arange(first, min(first + _ROWS, num_rows)) for first in range(0, num_rows, _ROWS))
    return any(np.isfinite(bank.candidates.scores(row_B, bank.ranks(row_B))).any() for row_B in blocks)
