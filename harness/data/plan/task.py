"""A task of the recipe with its opened data and its banks of negatives: the input of the plan and the token batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.data.bank.history import BankHistory
from harness.data.config import TaskConfig
from harness.data.table.index import TaskData
from harness.data.teacher.vectors import TeacherVectors
from harness.types import PromptedText, TextRole


@dataclass(frozen=True, slots=True)
class Task:
    """A task's settings, data, banks of negatives, and the maximum length of a text of each role (tokens)."""

    config: TaskConfig
    data: TaskData
    bank: BankHistory | None  # retrieval only
    query_max_length: int
    document_max_length: int
    teacher: TeacherVectors | None = None  # given if a loss needs a teacher's vectors

    @property
    def quota(self) -> int:
        """Number of examples in a step, over all ranks. `with_quotas` must have replaced the shares."""
        assert self.config.quota is not None
        return self.config.quota

    def max_length(self, role: TextRole) -> int:
        return self.query_max_length if role == "query" else self.document_max_length

    def prompt(self, role: TextRole, row_prompt: str | None) -> str:
        """The prompt to put before a text of this role. row_prompt: the row's own, used instead for its query."""
        return self.config.prompts.to_prompts().before(role, row_prompt)

    def full_texts(self, texts: TaskData, id_N: np.ndarray, role: TextRole) -> list[PromptedText]:
        """The texts `id_N` of a table, each with its prompt in front."""
        return [PromptedText(self.prompt(role, row_prompt), text) for text, row_prompt in texts.read_texts(id_N)]


@dataclass(frozen=True, slots=True)
class TextSource:
    """A text table that a plan may refer to, and the task whose prompts and maximum lengths apply to its texts."""

    task: Task
    data: TaskData


def text_sources(tasks: Sequence[Task]) -> list[TextSource]:
    """The tasks' own tables in the order of the tasks, then the corpora of their banks."""
    own = [TextSource(task, task.data) for task in tasks]
    return own + [TextSource(task, task.bank.texts) for task in tasks if _has_corpus(task) and task.bank]


def negative_source(tasks: Sequence[Task], index: int) -> int:
    """The position in `text_sources` of the table that task `index` takes its negatives from."""
    if not _has_corpus(tasks[index]):
        return index
    return len(tasks) + sum(_has_corpus(task) for task in tasks[:index])


def _has_corpus(task: Task) -> bool:
    return task.bank is not None and task.bank.texts is not task.data
