"""What a recipe's `mining` section does, in lines for `harness plan`."""

from __future__ import annotations

from harness.mining.config import MiningConfig, build_rule
from harness.mining.judging.in_batch import compared_documents
from harness.types import QueryPart, StepPlan


def mining_lines(config: MiningConfig, plan: StepPlan) -> list[str]:
    """Who ranks before the first step, the rule with its numbers, where its similarities come from, what comes next."""
    at_start = (
        "mining: before the first step the starting model ranks the candidates of tasks with negatives.per_query; "
        "above, other rows' documents stand in for them"
    )
    before = [at_start] if config.remine.at_start else []
    rule = build_rule(config)
    if rule is None:
        return before
    numbers = [f"{name} {'auto' if value != value else format(value, 'g')}" for name, value in rule.numbers.items()]
    every = "every step" if rule.interval == 1 else f"every {rule.interval} steps"
    chosen = "the next rank"
    if config.successor == "score":
        chosen = f"the next rank that is harder, while scores are at most {config.fresh_steps} steps old"
    lines = [
        *before,
        f"mining: rule {rule.name} ({', '.join(numbers)}), judged {every}; a replaced negative gives way to {chosen}",
    ]
    for part in plan.parts if rule.compares else ():
        if isinstance(part, QueryPart) and (part.rank_BM >= 0).any():  # ranked negatives only
            compared, documents = len(compared_documents(len(part.document_N))), len(part.document_N)
            lines.append(
                f"mining: task {part.task}: a query's negatives are compared with {compared} of {documents} documents "
                f"({len(part.query_B) * compared:,} cosines a step)"
            )
    return lines
