"""The recipe's `mining` section."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from harness.section import Section


class MiningConfig(Section):
    """When a query's negatives have become easy and the next of its ranked candidates take their place.

    S is the similarity of a negative in use, S0 that at its first use.
    none: every query keeps its first window.
    v1 (Conan-embedding, arXiv 2408.15710, section 3.1): the whole window, if ratio * S < S0 and |S| < ceiling, S and S0
        means over the window; judged every `interval` steps for the queries seen since. 1.15, 0.8, 100.
    v2 (Conan-embedding-v2, arXiv 2509.12892, eq. 6): each negative by itself, if S0 < floor, or ratio * S < S0 and
        S < ceiling; judged at every step. 1.2, 0.7, 0.4.
    """

    rule: Literal["none", "v1", "v2"] = "none"
    ratio: float | None = Field(None, ge=1)  # default: the rule's
    ceiling: float | None = Field(None, gt=0)  # default: the rule's
    floor: float | None = None  # v2; default 0.4
    interval: int | None = Field(None, ge=1)  # steps between two judgements; default: the rule's
    delay: int = Field(1, ge=1)  # steps that may be planned ahead of a decision: it counts from step t + 1 + delay on
    exhausted: Literal["keep", "wrap"] = "keep"  # when a list ends: keep what is in use, or begin again at its offset
    start: Literal["first_use", "ranking"] = "first_use"  # S0: the loss's own, or the score it was ranked by

    @model_validator(mode="after")
    def _check_rule(self) -> MiningConfig:
        if self.rule != "v2" and self.floor is not None:
            raise ValueError(
                f"mining.floor: got {self.floor} with rule {self.rule}, expected it with v2 only; remove it"
            )
        return self
