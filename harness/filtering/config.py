"""Settings of `harness filter`: every number that decides whether a pair is kept.

This module imports no large library, so that `harness --help` is fast.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from harness.settings.section import Section


class RuleConfig(Section):
    """Limits on a query or positive in any language. White space at either end does not count as characters."""

    min_characters: int = Field(2, ge=1)  # of a query and of a positive
    max_characters: int = Field(50_000, ge=1)  # likewise
    # Share of the characters, without white space, that are not letters, marks or digits.
    max_symbol_share: float = Field(0.6, ge=0, le=1)
    max_run_share: float = Field(0.3, ge=0, le=1)  # share of the characters in runs of four or more equal characters
    max_repeated_line_share: float = Field(0.3, ge=0, le=1)  # share of the lines equal to an earlier one (Gopher: 0.3)

    @model_validator(mode="after")
    def _check_lengths(self) -> RuleConfig:
        if self.max_characters < self.min_characters:
            raise ValueError(
                f"rules.max_characters: got {self.max_characters}, expected at least rules.min_characters "
                f"({self.min_characters}); raise the former or lower the latter"
            )
        return self


class FilterConfig(Section):
    """Which pairs `harness filter` drops.

    min_score: drop pairs with a lower cosine. Conan-embedding uses 0.4 with bge-large-zh-v1.5 (arXiv 2408.15710,
        section 3.1). Other models have other distributions of cosines: see the histogram in the report.
    consistency_top_k: drop a pair if its positive is not among the k documents of `corpus_sample` that are nearest to
        the query (E5, arXiv 2212.03533, section 3.1: k = 2 of a million).
    """

    rules: RuleConfig = RuleConfig()
    duplicates: Literal["none", "exact", "near"] = "near"  # which are dropped; near: exact ones as well
    # Jaccard similarity of character shingles that both the queries and the positives of two pairs must reach.
    near_threshold: float = Field(0.8, gt=0, le=0.95)
    shingle_characters: int = Field(5, ge=1)  # length of a shingle
    # MinHash values per text: the standard error of a similarity is at most 0.5 / sqrt(num_hashes).
    num_hashes: int = Field(128, ge=16)
    min_score: float = Field(0.4, ge=-1, le=1)
    consistency_top_k: int | None = Field(None, ge=1)
    corpus_sample: int = Field(1_000_000, ge=1)  # documents among which consistency is judged
