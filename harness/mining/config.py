"""The recipe's `mining` section."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from harness.data.config import PromptsConfig
from harness.section import Section


class RemineConfig(Section):
    """Ranking every query's candidates anew with the model as it is (ANCE, arXiv 2007.00808, section 4). See `mine`."""

    every: int = Field(0, ge=0)  # steps; 0: never by the clock
    candidates: int = Field(100, ge=1)  # per query
    relative: float | None = Field(None, gt=0, le=1)  # keep s < relative * s(positive), sign-safe
    margin: float | None = None  # keep s < s(positive) - margin
    index: Literal["exact", "ivf"] = "exact"  # above `index_above` documents; a graph (hnsw) is not built alike twice
    index_above: int = Field(1_000_000, ge=0)
    ended: float = Field(0.1, gt=0, le=1)  # exhausted: remine waits until this share of a task's lists has ended


class GuideConfig(Section):
    """A frozen model that judges the negatives of the tasks with `negatives.guide` (GISTEmbed, arXiv 2402.16829).

    A document is no negative of a query if guide(query, document) > guide(query, lowest positive) + margin, guide()
    being the cosine of the guide's embeddings. It reads the raw texts, with its own prompts and tokenizer. A query with
    several positives is judged by the lowest: with positives that may be wrong, `positives: one` loses fewer negatives.
    """

    name_or_path: str
    margin: float = 0.0
    max_length: int | None = Field(None, ge=4)  # tokens; default: the model's own
    prompts: PromptsConfig = PromptsConfig()
    trust_remote_code: bool = False


class MiningConfig(Section):
    """When a query's negatives have become easy and the next of its ranked candidates take their place.

    S is the similarity of a negative in use, S0 that at its first use.
    none: every query keeps its first window.
    v1 (Conan-embedding, arXiv 2408.15710, section 3.1): the whole window, if ratio * S < S0 and |S| < ceiling, S and S0
        means over the window; judged every `interval` steps for the queries seen since. 1.15, 0.8, 100.
    v2 (Conan-embedding-v2, arXiv 2509.12892, eq. 6): each negative by itself, if S0 < floor, or ratio * S < S0 and
        S < ceiling; judged at every step. 1.2, 0.7, 0.4.
    check: seen takes S from the loss of the steps since the last judgement, at no cost. upcoming encodes, every
        `interval` steps (default 100), the negatives of the queries that the plan says come next, with dropout off, up
        to `budget` texts; S0 then is the first such score.
    """

    rule: Literal["none", "v1", "v2"] = "none"
    ratio: float | None = Field(None, ge=1)  # default: the rule's
    ceiling: float | None = Field(None, gt=0)  # default: the rule's
    floor: float | None = None  # v2; default 0.4
    interval: int | None = Field(None, ge=1)  # steps between two judgements; default: the rule's
    delay: int = Field(1, ge=1)  # steps that may be planned ahead of a decision: it counts from step t + 1 + delay on
    check: Literal["seen", "upcoming"] = "seen"
    budget: int = Field(4096, ge=2)  # upcoming: texts encoded per check, over all tasks and ranks
    exhausted: Literal["keep", "wrap", "remine"] = "keep"  # when a list ends: keep what is in use, begin again, re-rank
    start: Literal["first_use", "ranking"] = "first_use"  # S0: the first S, or the score it was ranked by
    remine: RemineConfig = RemineConfig()

    @model_validator(mode="after")
    def _check_rule(self) -> MiningConfig:
        if self.rule != "v2" and self.floor is not None:
            raise ValueError(
                f"mining.floor: got {self.floor} with rule {self.rule}, expected it with v2 only; remove it"
            )
        return self
