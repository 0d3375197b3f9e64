"""Settings under which a rule cannot change what a run trains on: said at start, with the way out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.data.negatives import NegativeBank
from harness.data.task import Task
from harness.mining.config import MiningConfig
from harness.mining.rules import Rule

_ROWS = 65_536  # looked at together


def idle_rule_message(config: MiningConfig, tasks: Sequence[Task], num_steps: int) -> str | None:
    """Why the rule cannot change what a run, or some of its tasks, trains on, with the way out; None if it can in all.

    A decision counts some steps later, a replaced negative when its query comes again; S0 needs a first use or a score.
    """
    rule = Rule.of(config)
    if rule is None:
        return None
    watched = [task for task in tasks if task.bank is not None and task.bank.num_slots]
    found = _clock(config, rule, num_steps) + _reach(config, rule, watched, num_steps)
    for task in watched:
        assert task.bank is not None
        name, quota, num_rows = task.config.name, task.quota, task.data.num_rows
        if config.check == "seen" and num_steps * quota <= num_rows:
            found.append(
                f"task {name}: no query comes twice in {num_steps} steps of {quota} of its {num_rows} rows; set "
                f"mining.check: upcoming, or raise training.steps above {num_rows // quota}"
            )
        elif config.start == "ranking" and not _has_scores(task.bank.newest, num_rows):
            found.append(
                f"task {name}: its candidates have no scores for mining.start: ranking; set first_use, or make a bank "
                "with harness mine"
            )
    return f"mining.rule {config.rule} changes nothing ({'; '.join(found)})" if found else None


def _clock(config: MiningConfig, rule: Rule, num_steps: int) -> list[str]:
    if num_steps > rule.interval + config.delay:
        return []
    return [
        f"its first decision, after step {rule.interval}, counts from step {rule.interval + 1 + config.delay} of "
        f"{num_steps} on; lower mining.interval or raise training.steps"
    ]


def _reach(config: MiningConfig, rule: Rule, watched: Sequence[Task], num_steps: int) -> list[str]:
    """Whether checks of upcoming queries look far enough ahead for a query to be scored twice before it is used."""
    if config.check == "seen" or config.start == "ranking" or not watched:
        return []
    texts = sum(task.quota * (1 + task.bank.num_slots) for task in watched if task.bank is not None)
    comes_again = any(num_steps * task.quota > task.data.num_rows for task in watched)
    if comes_again or config.budget > rule.interval * texts:
        return []
    return [
        f"no query is scored twice before its one use: checks every {rule.interval} steps with mining.budget "
        f"{config.budget} reach {config.budget // texts} steps of {texts} texts ahead; raise mining.budget above "
        f"{rule.interval * texts}, lower mining.interval, or set mining.start: ranking"
    ]


def _has_scores(bank: NegativeBank, num_rows: int) -> bool:
    blocks = (np.arange(first, min(first + _ROWS, num_rows)) for first in range(0, num_rows, _ROWS))
    return any(np.isfinite(bank.candidates.scores(row_B, bank.ranks(row_B))).any() for row_B in blocks)
