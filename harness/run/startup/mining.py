"""Checks that a recipe's mining finds what it needs: candidates, other documents, and scores by the run's own model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.config import LoadedRecipe, RunConfig
from harness.data.bank.file import BankFacts
from harness.data.bank.negatives import NegativeBank
from harness.data.bank.unranked import UnrankedCandidates
from harness.data.config import TaskConfig
from harness.data.plan.task import Task
from harness.data.table.tokenisation import Tokeniser
from harness.encoder.encoder import Encoder, fingerprint
from harness.encoder.partial.adapter import without_new_adapter
from harness.mining.config import MiningConfig
from harness.mining.replacement_rule import rule_class
from harness.run.places import locate_for

BANK_OFFSET = 10  # the paper's value (section 3.1): the first results of a search are often unlabelled positives


def offset_of(task: TaskConfig) -> int:
    """The rank of the first candidate of a searched bank that is used as a negative."""
    return BANK_OFFSET if task.negatives.offset is None else task.negatives.offset


def check_compared(config: RunConfig) -> None:
    """Check that a rule that compares negatives with the step's documents has such documents.

    With scope `own`, a plan does not look for known positives among them.

    Raises:
        ValueError: a task's queries are compared with their own negatives only.
    """
    if config.mining.rule == "none" or not rule_class(config.mining.rule).compares:
        return
    for task in config.tasks:
        if task.kind == "retrieval" and task.negatives.per_query and task.scope == "own":
            raise ValueError(
                f"tasks.{task.name}.negatives.scope: got own with mining.rule {config.mining.rule}, which compares "
                "negatives with the other documents of the step, expected task or step; set scope: task, or "
                "mining.rule: v2"
            )


def check_drawn(config: RunConfig) -> None:
    """Check that no rule replaces negatives that are drawn anew at each use anyway.

    Raises:
        ValueError: a task draws its negatives at random, and `mining` has a rule.
    """
    for task in config.tasks:
        if task.negatives.draw == "random" and config.mining.rule != "none":
            raise ValueError(
                f"tasks.{task.name}.negatives.draw: got random with mining.rule {config.mining.rule}, which replaces "
                "negatives that stay until then, expected ranked; set draw: ranked, or mining.rule: none"
            )


def check_reranking(config: RunConfig) -> None:
    """Check that re-ranking (`mining.remine`) gives each query enough candidates for its first negatives.

    Raises:
        ValueError: `mining.remine.candidates` is too small.
    """
    if not config.mining.ranks_anew:
        return
    for task in config.tasks:
        if config.mining.remine.at_start and task.negatives.bank is not None:
            raise ValueError(
                f"tasks.{task.name}.negatives.bank: got {task.negatives.bank} with mining.remine.at_start, which ranks "
                "the task's own documents, expected one of them; leave the bank out, or set at_start: false"
            )
        needed = offset_of(task) + task.negatives.per_query
        if task.kind == "retrieval" and task.negatives.per_query and config.mining.remine.candidates < needed:
            raise ValueError(
                f"mining.remine.candidates: got {config.mining.remine.candidates}, expected at least {needed}: task "
                f"{task.name} passes over {offset_of(task)} of a search and uses {task.negatives.per_query}; raise it, "
                "or lower negatives.offset"
            )


def check_ranked(config: RunConfig) -> None:
    """Check that with `mining.start: ranking` or `successor: score` every ranked negative has a score.

    `check_ranking` checks, when the model is loaded, that they are its own.

    Raises:
        ValueError: a task has the lists of its data only, which do not say what ranked them.
    """
    mining = config.mining
    if mining.remine.at_start or not _needs_scores(mining):
        return
    setting, default = _setting_and_default(mining)
    for task in config.tasks:
        if task.kind == "retrieval" and task.negatives.per_query and task.negatives.bank is None:
            raise ValueError(
                f"mining.{setting}, but task {task.name} has no bank that says what ranked it; make one with harness "
                f"mine, set mining.remine.at_start, or mining.{default}"
            )


def _needs_scores(mining: MiningConfig) -> bool:
    return mining.rule != "none" and (mining.start, mining.successor) != ("first_use", "rank")


def _setting_and_default(mining: MiningConfig) -> tuple[str, str]:
    if mining.start == "ranking":
        return "start: got ranking", "start: first_use"
    return "successor: got score", "successor: rank"


def begin_unranked(config: RunConfig, tasks: Sequence[Task]) -> None:
    """With `mining.remine.at_start`, give tasks candidates that stand in for the ranking: for a plan, not for a run."""
    for task in tasks if config.mining.remine.at_start else ():
        if task.bank is not None and task.bank.num_slots:
            candidates = UnrankedCandidates(task.data, offset_of(task.config), config.mining.remine.candidates)
            task.bank.begin(NegativeBank(task.data.num_rows, candidates, task.bank.num_slots))


def check_ranking(loaded: LoadedRecipe, encoder: Encoder, tokeniser: Tokeniser, tasks: Sequence[Task]) -> None:
    """With `mining.start: ranking` or `successor: score`, check that this run's starting model ranked every bank.

    Only then is the score in the bank S0, the similarity that a negative has at the start, and comparable with S.

    Raises:
        ValueError: a bank was ranked with other weights, pooling, tokenizer, prompts or lengths.
    """
    mining = loaded.config.mining
    if not _needs_scores(mining):
        return
    setting, default = _setting_and_default(mining)
    model = {"weights": fingerprint(without_new_adapter(encoder.state_dict())), "pooling": encoder.pooling}
    for task in tasks:
        if task.bank is None or not task.bank.num_slots or mining.remine.at_start:
            continue
        bank = task.config.negatives.bank
        assert bank is not None  # check_ranked
        lengths = [task.query_max_length, task.document_max_length]
        # A cross-encoder's scores are no similarities of this or any model's embeddings.
        expected = {
            **model,
            "cross_encoder": None,
            "prompts": task.config.prompts.to_prompts().for_pairs(),
            "max_lengths": lengths,
        }
        ranked_by = BankFacts.read(Path(locate_for(loaded, bank, allow_hub=False))).ranked_by
        if "tokenizer" in ranked_by:  # banks of earlier versions do not say it
            expected["tokenizer"] = tokeniser.fingerprint
        different = [key for key, value in expected.items() if ranked_by.get(key) != value]
        if different:
            raise ValueError(
                f"mining.{setting}, but {bank} was ranked with other {' and '.join(different)} than the run starts "
                f"with; mine it again with the run's model, or set mining.{default}"
            )
