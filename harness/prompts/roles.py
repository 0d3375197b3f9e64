"""`Prompts`: the text that is put before a query, a document or a sentence."""

from __future__ import annotations

import json
from dataclasses import dataclass

from harness.types import EncodingRole


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of queries, of documents, and of sentences (texts that are neither queries nor documents).

    sentence: None means that sentences have the query prompt.
    """

    query: str = ""
    document: str = ""
    sentence: str | None = None

    def before(self, role: EncodingRole, row_prompt: str | None = None) -> str:
        """The prompt of a text of this role.

        row_prompt: the prompt that is stored with this text, used instead. A row's own prompt is stored with its query,
        and with its documents only if the task is symmetric.
        """
        if row_prompt is not None:
            return row_prompt
        if role == "document":
            return self.document
        return self.query if role == "query" or self.sentence is None else self.sentence

    def for_pairs(self) -> dict[str, str]:
        """The prompts of queries and documents by role, as they name what a bank or a table was made with."""
        return {"query": self.query, "document": self.document}

    def by_role(self, *, pairs: bool) -> dict[str, str]:
        """role → prompt, for data of queries and documents (`pairs`) or of sentences."""
        return self.for_pairs() if pairs else {"sentence": self.before("sentence")}


NO_PROMPTS = Prompts()  # for texts that already begin with their prompt


def in_words(prompt_of_role: dict[str, str]) -> str:
    """What stands before which text, for a message: `query prompt "q: ", no document prompt`."""
    if not any(prompt_of_role.values()):
        return "no prompt"
    named = [(role, json.dumps(text, ensure_ascii=False) if text else "") for role, text in prompt_of_role.items()]
    return ", ".join(f"{role} prompt {text}" if text else f"no {role} prompt" for role, text in named)
