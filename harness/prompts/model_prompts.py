"""`ModelPrompts`: the prompts of a model by name, and which of them stand before the texts of a data set.

The names are looked up as sentence-transformers 6.2 does it: `encode_query` takes the prompt `query`, `encode_document`
the first of `document`, `passage` and `corpus`, and plain `encode` the one that `default_prompt_name` names. Neither of
the first two falls back to the default. The names of kinds of data (`STS`, `Classification` ...) are mteb's
(`mteb/models/abs_encoder.py`, `get_prompt_name`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.prompts.placeholders import check_prompt
from harness.prompts.roles import Prompts
from harness.settings.in_short import in_short, joined_in_short

DOCUMENT_NAMES = ("document", "passage", "corpus")
OLD_SENTENCE_NAME = "sentence"  # written by earlier versions of this project
# The names that a prompt of each kind of data may have, by role; the first that a model has is used.
QUERY_NAMES_OF_KIND = {"retrieval": ("query", "Retrieval-query"), "reranking": ("Reranking-query", "query")}
DOCUMENT_NAMES_OF_KIND = {
    "retrieval": (*DOCUMENT_NAMES, "Retrieval-document"),
    "reranking": ("Reranking-document", *DOCUMENT_NAMES),
}
SENTENCE_NAME_OF_KIND = {
    "sts": "STS",
    "pair_classification": "PairClassification",
    "classification": "Classification",
    "clustering": "Clustering",
}
_TABLES = (*QUERY_NAMES_OF_KIND.values(), *DOCUMENT_NAMES_OF_KIND.values())
KNOWN_NAMES = frozenset(
    (*(name for names in _TABLES for name in names), *SENTENCE_NAME_OF_KIND.values(), OLD_SENTENCE_NAME)
)


@dataclass(frozen=True, slots=True)
class PromptChoice:
    """The prompts that a user asks for instead of the model's: texts, or the name of one of the model's prompts.

    None: not given. An empty text means no prompt. options: how messages call the
    three.
    """

    query: str | None = None
    document: str | None = None
    name: str | None = None
    options: tuple[str, str, str] = ("--query-prompt", "--document-prompt", "--prompt-name")

    @property
    def is_given(self) -> bool:
        return not (self.query is None and self.document is None and self.name is None)


def has_pairs(kind: str | None) -> bool:
    """Whether data of this kind has queries and documents; any other has sentences only."""
    return kind in QUERY_NAMES_OF_KIND


@dataclass(frozen=True, slots=True)
class ModelPrompts:
    """The prompts of a model.

    named: name → text, as a sentence-transformers folder stores them. default_name: the prompt that plain `encode` puts
    before a text. tasks: the prompts of the tasks that the model was trained with, by the task's name.
    """

    named: Mapping[str, str] = field(default_factory=dict)
    default_name: str | None = None
    tasks: Mapping[str, Prompts] = field(default_factory=dict)

    @classmethod
    def of_folder(cls, stored: Any, default_name: Any, where: str) -> ModelPrompts:
        """The prompts as a folder's config_sentence_transformers.json stores them.

        Raises:
            ValueError: they are no texts by name, or the default is none of them; `WHERE: ...`.
        """
        texts = (
            {name: "" if text is None else text for name, text in (stored or {}).items()} if _named(stored) else None
        )
        if texts is None:
            raise ValueError(f"{where}: prompts: got {in_short(stored)}, expected texts by name; mend the file")
        if (
            default_name
            and not (isinstance(default_name, str) and default_name in texts)
            and default_name not in ("query", "document")
        ):
            raise ValueError(
                f"{where}: default_prompt_name: got {in_short(default_name, quoted=True)}, expected one of the prompts "
                f"({joined_in_short(texts) or 'there are none'}); mend the file"
            )
        return cls(texts, default_name or None)

    @property
    def is_empty(self) -> bool:
        """Whether no text gets a prompt."""
        return not any(self.named.values())

    def of_kind(self, kind: str | None = None) -> Prompts:
        """The prompts of a data set of this kind; None: of texts whose kind of data is not known."""
        query = self._first(QUERY_NAMES_OF_KIND.get(kind or "", ("query",)))
        document = self._first(DOCUMENT_NAMES_OF_KIND.get(kind or "", DOCUMENT_NAMES))
        own_name = SENTENCE_NAME_OF_KIND.get(kind or "")
        sentence = self._first((*([own_name] if own_name else []), OLD_SENTENCE_NAME))
        default = self.named.get(self.default_name, "") if self.default_name else ""
        return Prompts(query or "", document or "", default if sentence is None else sentence)

    def chosen(self, kind: str | None, choice: PromptChoice) -> Prompts:
        """The prompts of a data set of this kind, with what the user asks for in place of the model's.

        Raises:
            ValueError: the model has no prompt of this name, a text has a placeholder, or a document
                prompt is given for data without documents.
        """
        query_option, document_option, _ = choice.options
        check_prompt(choice.query, query_option)
        check_prompt(choice.document, document_option)
        prompts = self.of_kind(kind) if choice.name is None else self._named(choice, kind)
        if not has_pairs(kind) and kind is not None:
            if choice.document is not None and choice.query is None:
                raise ValueError(
                    f"{document_option}: got a document prompt for {kind} data, which has one kind of text; use "
                    f"{query_option}"
                )
            return prompts if choice.query is None else Prompts(choice.query, prompts.document, choice.query)
        query = prompts.query if choice.query is None else choice.query
        document = prompts.document if choice.document is None else choice.document
        return Prompts(query, document, prompts.sentence if choice.query is None else choice.query)

    def unused_names(self, kind: str, prompts: Prompts) -> list[str]:
        """Prompts whose names say nothing to this kind of data, if its queries or sentences got none; else empty."""
        if prompts.before("query" if has_pairs(kind) else "sentence"):
            return []
        unknown = [name for name, text in self.named.items() if text and name not in KNOWN_NAMES]
        return [name for name in unknown if not name.endswith("-document")]

    def _first(self, names: Sequence[str]) -> str | None:
        """The first of these prompts that the model has, be it empty."""
        return next((self.named[name] for name in names if name in self.named), None)

    def _named(self, choice: PromptChoice, kind: str | None) -> Prompts:
        """The prompts of the task of this name, or those that are stored under it."""
        name = choice.name
        assert name is not None
        if name in self.tasks:
            task = self.tasks[name]
            return Prompts(task.query, task.document, task.before("sentence"))
        query, document = self._first((f"{name}-query", name)), self._first((f"{name}-document",))
        if query is None and document is None:
            available = list(dict.fromkeys([*self.tasks, *self.named]))
            raise ValueError(
                f"{choice.options[2]}: got {name}, expected one of the model's prompts "
                f"({', '.join(available) or 'it has none'})"
            )
        own = self.of_kind(kind)
        query = own.query if query is None else query
        return Prompts(query, own.document if document is None else document, query)


def _named(stored: Any) -> bool:
    return stored is None or (
        isinstance(stored, Mapping)
        and all(isinstance(name, str) and isinstance(text, str | None) for name, text in stored.items())
    )
