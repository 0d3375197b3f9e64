"""Finds settings under which negatives cannot change or are missing, for a warning at the start of a run."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.data.bank.history import BankHistory
from harness.data.bank.negatives import NegativeBank
from harness.data.plan.task import Task
from harness.mining.config import MiningConfig, build_rule
from harness.mining.replacement_rule import ReplacementRule, rule_class
from harness.mining.rules.v2 import AUTO_JUDGEMENTS
from harness.mining.task_negatives import blocks_of_rows, num_rows_with_fewer
from harness.types import Balance


def ineffective_rule_message(
    config: MiningConfig, tasks: Sequence[Task], num_steps: int, balance: Balance = "cbb"
) -> str | None:
    """Why the rule cannot change the negatives of a run, or of some of its tasks, and what to do; None if it can.

    A decision takes effect some steps later, and a new negative is used only when its query is drawn again. A negative
    can be judged only when its S0 is known: from its first use, or from a score. A new ranking resets all S0.
    """
    rule = build_rule(config)
    if rule is None:
        return None
    watched = [(task, task.bank) for task in tasks if task.bank is not None and task.bank.num_slots]
    if not watched:
        return f"mining.rule {config.rule} changes nothing (no task has ranked negatives; set negatives.per_query)"
    problems = _decides_too_late(config, rule, num_steps)
    all_quotas = sum(task.quota for task in tasks)
    for task, bank in watched:
        # With `alternate`, a task's share of the steps is its share of the quotas; otherwise every step has the task.
        queries_per_step = task.quota * (task.quota / all_quotas if balance == "alternate" else 1)
        problem = _sees_no_query_twice(config, task, queries_per_step, num_steps) if config.check == "seen" else None
        problem = problem or _lacks_ranking_scores(config, task, bank)
        problems += [f"task {task.config.name}: {problem}"] if problem else []
    if config.check == "upcoming":
        problems += _looks_ahead_too_little(config, rule, watched, num_steps)
    return f"mining.rule {config.rule} changes nothing ({'; '.join(problems)})" if problems else None


def late_floor_message(config: MiningConfig, num_steps: int) -> str | None:
    """Why `floor: auto` cannot replace anything in a run, and what to do; None if it can, or is not set."""
    rule = build_rule(config)
    if rule is None or config.floor != "auto":
        return None
    known_after = AUTO_JUDGEMENTS * rule.interval
    limits = {
        "training.steps": num_steps,
        **({"mining.remine.every": config.remine.every} if config.remine.every else {}),
    }
    too_few = next((setting for setting, steps in limits.items() if steps <= known_after + config.delay), None)
    if too_few is None:
        return None
    return (
        f"mining.floor auto changes nothing (it is known after step {known_after} at the earliest and counts from step "
        f"{known_after + 1 + config.delay} on, but {too_few} is {limits[too_few]}); raise it, or give a floor"
    )


def nothing_compared_message(config: MiningConfig, tasks: Sequence[Task], balance: Balance = "cbb") -> str | None:
    """Why a rule that compares can find no negative easy in some tasks, and what to do; None if it can, or is another.

    Of the only query of a step all documents are positives or its own negatives.
    """
    rule = build_rule(config)
    if rule is None or not rule.compares or balance == "homogeneous":
        return None
    is_alone = balance == "alternate" or len(tasks) == 1
    names = [
        task.config.name
        for task in tasks
        if task.bank is not None
        and task.bank.num_slots
        and task.quota == 1
        and (is_alone or task.config.scope == "task")
    ]
    if not names:
        return None
    return (
        f"mining.quantile changes nothing (task {', '.join(names)}: a step holds one query, so there is no other "
        f"document to compare its negatives with); raise quota{'' if is_alone else ', or set negatives.scope: step'}"
    )


def empty_window_message(config: MiningConfig, tasks: Sequence[Task]) -> str | None:
    """Names the tasks in which at least half of the rows lack the negatives that the task asks for; None if no task."""
    if config.remine.at_start:  # then what is in the data does not count
        return None
    problems = []
    for task in tasks:
        if task.bank is None or not task.bank.num_slots:
            continue
        candidates, num_rows = task.bank.newest.candidates, task.data.num_rows
        num_empty = num_rows_with_fewer(candidates, num_rows, candidates.offset + 1)
        if 2 * num_empty >= num_rows:
            problems.append(
                f"task {task.config.name}: {num_empty:,} of {num_rows:,} rows have no candidate from rank "
                f"{candidates.offset} on and train without negatives of their own, though negatives.per_query is "
                f"{task.bank.num_slots}; lower negatives.offset, give a bank of harness mine, set "
                "mining.remine.at_start, or per_query: 0"
            )
    return "; ".join(problems) or None


def _decides_too_late(config: MiningConfig, rule: ReplacementRule, num_steps: int) -> list[str]:
    """A problem if the run ends before the first decision takes effect."""
    if num_steps > rule.interval + config.delay:
        return []
    return [
        f"its first decision, after step {rule.interval}, counts from step {rule.interval + 1 + config.delay} of "
        f"{num_steps} on; lower mining.interval or raise training.steps"
    ]


def _sees_no_query_twice(config: MiningConfig, task: Task, queries_per_step: float, num_steps: int) -> str | None:
    """A problem if no query is drawn twice in the run, or between two rankings."""
    look_ahead = "" if rule_class(config.rule).compares else "set mining.check: upcoming, or "
    every, num_rows = config.remine.every, task.data.num_rows
    if num_steps * queries_per_step <= num_rows:
        return (
            f"no query comes twice in {num_steps} steps of {queries_per_step:g} of its {num_rows} rows; "
            f"{look_ahead}raise training.steps above {int(num_rows / queries_per_step)}"
        )
    if every and every * queries_per_step <= num_rows:
        return (
            f"no query comes twice in the {every} steps between two rankings, {queries_per_step:g} of its {num_rows} "
            f"rows a step; {look_ahead}raise mining.remine.every above {int(num_rows / queries_per_step)}"
        )
    return None


def _lacks_ranking_scores(config: MiningConfig, task: Task, bank: BankHistory) -> str | None:
    """A problem if S0 should be the score of the ranking, but no candidate in use has a score."""
    if config.start != "ranking" or config.remine.at_start or _has_scores(bank.newest, task.data.num_rows):
        return None
    return "its candidates have no scores for mining.start: ranking; set first_use, or make a bank with harness mine"


def _looks_ahead_too_little(
    config: MiningConfig, rule: ReplacementRule, watched: Sequence[tuple[Task, BankHistory]], num_steps: int
) -> list[str]:
    """Problems if the budget is too small to score any query, or to score a query twice where S0 needs this."""
    texts_of_a_query = max(1 + bank.num_slots for _, bank in watched)
    if config.budget < texts_of_a_query:
        return [
            f"mining.budget {config.budget} holds no query with its negatives; raise it to {texts_of_a_query} at least"
        ]
    texts_per_step = sum(task.quota * (1 + bank.num_slots) for task, bank in watched)
    used_once = [task.config.name for task, _ in watched if num_steps * task.quota <= task.data.num_rows]
    if not used_once or config.start == "ranking" or config.budget > rule.interval * texts_per_step:
        return []
    return [
        f"{', '.join(used_once)}: no query is scored twice before its one use: checks every {rule.interval} steps with "
        f"mining.budget {config.budget} reach {config.budget // texts_per_step} steps of {texts_per_step} texts ahead; "
        f"raise mining.budget above {rule.interval * texts_per_step}, lower mining.interval, or set mining.start: "
        "ranking"
    ]


def _has_scores(bank: NegativeBank, num_rows: int) -> bool:
    """Whether any candidate in use has a score."""
    blocks = blocks_of_rows(num_rows)
    return any(np.isfinite(bank.candidates.scores(row_B, bank.ranks(row_B))).any() for row_B in blocks)
