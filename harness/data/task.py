"""A task of the recipe with its opened data and its negative bank: what the plan and the token batches work on."""

from __future__ import annotations

from dataclasses import dataclass

from harness.data.config import TaskConfig
from harness.data.index import TaskData
from harness.data.negatives import NegativeBank
from harness.types import TextRole


@dataclass(frozen=True, slots=True)
class Task:
    """Settings, data, bank, and how long a text of each role may be (tokens)."""

    config: TaskConfig
    data: TaskData
    bank: NegativeBank
    query_max_length: int
    document_max_length: int

    def max_length(self, role: TextRole) -> int:
        return self.query_max_length if role == "query" else self.document_max_length

    def prompt(self, role: TextRole, row_prompt: str | None) -> str:
        """What stands before a text: the row's own instruction if it has one, else the task's."""
        if role == "query":
            return self.config.prompts.query if row_prompt is None else row_prompt
        return self.config.prompts.document
