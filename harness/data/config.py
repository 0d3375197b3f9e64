"""The recipe's `tasks` entries and its `data` section."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from harness.section import Section
from harness.types import NegativesScope, TaskKind


class NegativesConfig(Section):
    """Which documents stand in a query's denominator, and how many negatives of its own a query brings."""

    scope: NegativesScope | None = None  # default: task; own for classification
    per_query: int = Field(0, ge=0)
    bank: str | None = None  # a folder that `harness mine` wrote; default: the lists in the data
    corpus: str | None = None  # what the bank was searched in, if it lies elsewhere now
    offset: int | None = Field(None, ge=0)  # candidates passed over at the top; default: 10 with a bank, else 0
    margin: float | None = None  # drop negatives with similarity > positive's + margin (detached)


class PromptsConfig(Section):
    """Text put before every query or document. Both texts of an STS or classification task take `query`."""

    query: str = ""
    document: str = ""


class TaskConfig(Section):
    """One data source and its share of a step. `quota` counts examples of the global step, over all ranks."""

    name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
    kind: TaskKind
    path: str
    split: str = "train"  # of a hub data set or a folder saved by `datasets`
    quota: int = Field(ge=1)
    weight: float = Field(1.0, gt=0)
    temperature: float | None = Field(None, gt=0)
    negatives: NegativesConfig = NegativesConfig()
    prompts: PromptsConfig = PromptsConfig()
    query_max_length: int | None = Field(None, ge=4)
    document_max_length: int | None = Field(None, ge=4)

    @property
    def scope(self) -> NegativesScope:
        return self.negatives.scope or ("own" if self.kind == "classification" else "task")

    @model_validator(mode="after")
    def _check_kind(self) -> TaskConfig:
        if self.kind == "sts" and self.negatives != NegativesConfig():
            raise ValueError(f"tasks.{self.name}.negatives: an sts task has no negatives; remove the key")
        if self.kind != "retrieval" and (self.negatives.bank or self.negatives.offset is not None):
            raise ValueError(
                f"tasks.{self.name}.negatives: got a bank or an offset for a {self.kind} task, expected them for "
                "retrieval only; remove the keys"
            )
        if self.kind != "retrieval" and (self.prompts.document or self.document_max_length):
            raise ValueError(
                f"tasks.{self.name}: a {self.kind} task has one kind of text; "
                "use prompts.query and query_max_length instead of the document ones"
            )
        if self.scope == "own" and self.kind != "sts" and self.negatives.per_query == 0:
            raise ValueError(
                f"tasks.{self.name}.negatives.per_query: got 0, expected at least 1 with scope own "
                "(the query's own negatives are its only ones); raise per_query or set scope: task"
            )
        return self


class DataConfig(Section):
    """How data files are read. `cache` holds the validated copies (default: the user's cache folder)."""

    on_bad_row: Literal["stop", "skip"] = "stop"
    cache: str | None = None
