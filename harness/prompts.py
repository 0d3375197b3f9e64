"""Prompts: the text that is put before a query, document or sentence when it is tokenised. Only this file chooses it.

In training, the prompt depends on the task (`tasks.NAME.prompts` of the recipe); a row may have its own prompt for its
query. In evaluation, mining, filtering and exported folders, the prompts depend on the model: `prompts_of_recipe` gives
the prompts of a run's model, `prompts_of_model_folder` those of any other model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import get_args

from harness.types import EncodingRole, TaskKind


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of queries, of documents, and of sentences (texts that are neither queries nor documents).

    sentence: None means that sentences have the query prompt.
    """

    query: str = ""
    document: str = ""
    sentence: str | None = None

    def before(self, role: EncodingRole, row_prompt: str | None = None) -> str:
        """The prompt of a text of this role. A row's own prompt replaces that of its query or sentence."""
        if role == "document":
            return self.document
        if row_prompt is not None:
            return row_prompt
        return self.query if role == "query" or self.sentence is None else self.sentence

    def for_pairs(self) -> dict[str, str]:
        """The prompts of queries and documents by role, as they name what a bank or a table was made with."""
        return {"query": self.query, "document": self.document}

    def to_store(self) -> dict[str, str]:
        """role → prompt, without empty prompts: the form in which sentence-transformers folders store them."""
        prompts = {str(role): self.before(role) for role in get_args(EncodingRole)}
        return {role: prompt for role, prompt in prompts.items() if prompt}


NO_PROMPTS = Prompts()  # for texts that already begin with their prompt


def prompts_of_recipe(
    task_prompts: Iterable[tuple[TaskKind, str, str]], *, query_prompt: str, document_prompt: str
) -> Prompts:
    """The prompts of a run's model: those of the recipe's `evaluation` section; if it has none, those of the tasks.

    Queries and documents get the prompts of the retrieval tasks if all retrieval tasks have the same ones, else no
    prompt. Sentences get the query prompt of the STS and classification tasks under the same condition.

    task_prompts: (kind, query prompt, document prompt) of every task.
    query_prompt, document_prompt: those of the `evaluation` section; empty if it has none.
    """
    task_prompts = list(task_prompts)
    retrieval_prompts = {(query, document) for kind, query, document in task_prompts if kind == "retrieval"}
    sentence_prompts = {query for kind, query, _ in task_prompts if kind != "retrieval"}
    query, document = retrieval_prompts.pop() if len(retrieval_prompts) == 1 else ("", "")
    sentence = sentence_prompts.pop() if len(sentence_prompts) == 1 else ""
    return Prompts(query_prompt or query, document_prompt or document, sentence)


def prompts_of_model_folder(stored: Mapping[str, str]) -> Prompts:
    """The prompts of a model folder.

    stored: name → prompt, as the folder stores them. Some folders name the document prompt `passage`.
    """
    document = stored.get("document", stored.get("passage", ""))
    return Prompts(stored.get("query", ""), document, stored.get("sentence", ""))
