"""A task of the recipe with its opened data and its bank of negatives: what the plan and the token batches work on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.data.bank.history import BankHistory
from harness.data.config import TaskConfig
from harness.data.table.index import TaskData
from harness.types import TextRole


@dataclass(frozen=True, slots=True)
class Task:
    """Settings, data, bank, and how long a text of each role may be (tokens)."""

    config: TaskConfig
    data: TaskData
    bank: BankHistory | None  # retrieval only
    query_max_length: int
    document_max_length: int

    @property
    def quota(self) -> int:
        """Examples of a step, over all ranks; `with_quotas` has replaced shares before."""
        assert self.config.quota is not None
        return self.config.quota

    def max_length(self, role: TextRole) -> int:
        return self.query_max_length if role == "query" else self.document_max_length

    def prompt(self, role: TextRole, row_prompt: str | None) -> str:
        """What stands before a text of this role. row_prompt: the row's own, which goes before its query instead."""
        return self.config.prompts.before(role, row_prompt)

    def full_texts(self, texts: TaskData, id_N: np.ndarray, role: TextRole) -> list[str]:
        """Texts of a table with their prompts before them."""
        return [self.prompt(role, row_prompt) + text for text, row_prompt in texts.read_texts(id_N)]


@dataclass(frozen=True, slots=True)
class TextSource:
    """A text table that a plan may refer to, and the task whose prompts and maximum lengths apply to its texts."""

    task: Task
    data: TaskData


def text_sources(tasks: Sequence[Task]) -> list[TextSource]:
    """The tasks' own tables in the order of the tasks, then the tables that their banks rank candidates from."""
    own = [TextSource(task, task.data) for task in tasks]
    return own + [TextSource(task, task.bank.texts) for task in tasks if _has_corpus(task) and task.bank]


def negative_source(tasks: Sequence[Task], index: int) -> int:
    """Which of `text_sources` task `index` takes its negatives from."""
    if not _has_corpus(tasks[index]):
        return index
    return len(tasks) + sum(_has_corpus(task) for task in tasks[:index])


def _has_corpus(task: Task) -> bool:
    return task.bank is not None and task.bank.texts is not task.data
