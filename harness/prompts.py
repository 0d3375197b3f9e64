"""Which text stands before a text when it is tokenised: decided here and nowhere else.

In training it depends on the task (`tasks.NAME.prompts` of the recipe) and, for a query, on its row. In evaluation, in
mining, in filtering and in an exported folder it depends on the model: see `prompts_of_recipe` for a model of a run and
`prompts_of_model_folder` for any other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import get_args

from harness.types import EncodingRole, TaskKind


@dataclass(frozen=True, slots=True)
class Prompts:
    """What stands before every query, every document, and every sentence (a text that is neither of them).

    sentence: None stands for the query's.
    """

    query: str = ""
    document: str = ""
    sentence: str | None = None

    def before(self, role: EncodingRole, row_prompt: str | None = None) -> str:
        """What stands before a text of this role. A row's own prompt takes the place of the one before its query."""
        if role == "document":
            return self.document
        if row_prompt is not None:
            return row_prompt
        return self.query if role == "query" or self.sentence is None else self.sentence

    def to_store(self) -> dict[str, str]:
        """The prompts as a sentence-transformers folder stores them: by role, without empty ones."""
        prompts = {str(role): self.before(role) for role in get_args(EncodingRole)}
        return {role: prompt for role, prompt in prompts.items() if prompt}


NO_PROMPTS = Prompts()  # for texts that have their prompts before them already


def prompts_of_recipe(
    task_prompts: Iterable[tuple[TaskKind, str, str]], *, query_prompt: str, document_prompt: str
) -> Prompts:
    """The prompts of a run's model: those of the recipe's `evaluation` section, else what the tasks agree on.

    task_prompts: kind, query prompt and document prompt of every task. Queries and documents take those of the
        retrieval tasks, sentences those before the texts of the STS and classification tasks; tasks that differ agree
        on none. query_prompt, document_prompt: of the `evaluation` section; empty where it does not say.
    """
    task_prompts = list(task_prompts)
    of_pairs = {(query, document) for kind, query, document in task_prompts if kind == "retrieval"}
    of_sentences = {query for kind, query, _ in task_prompts if kind != "retrieval"}
    query, document = of_pairs.pop() if len(of_pairs) == 1 else ("", "")
    sentence = of_sentences.pop() if len(of_sentences) == 1 else ""
    return Prompts(query_prompt or query, document_prompt or document, sentence)


def prompts_of_model_folder(stored: Mapping[str, str]) -> Prompts:
    """The prompts of a model folder, given those it stores by name; `passage` is what some call a document."""
    document = stored.get("document", stored.get("passage", ""))
    return Prompts(stored.get("query", ""), document, stored.get("sentence", ""))
