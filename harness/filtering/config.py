"""Settings of `harness filter`: every number that decides whether a pair is kept. Importing this stays cheap."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from harness.settings.section import Section


class RuleConfig(Section):
    """Limits on a query or positive, whatever its language. Characters: without white space at either end."""

    min_characters: int = Field(2, ge=1)
    max_characters: int = Field(50_000, ge=1)
    max_symbol_share: float = Field(0.6, ge=0, le=1)  # of characters that are no letter, mark, digit or white space
    max_run_share: float = Field(0.3, ge=0, le=1)  # of characters in runs of one character, four or longer
    max_repeated_line_share: float = Field(0.3, ge=0, le=1)  # of lines equal to an earlier one (Gopher: 0.3)

    @model_validator(mode="after")
    def _check_lengths(self) -> RuleConfig:
        if self.max_characters < self.min_characters:
            raise ValueError(
                f"rules.max_characters: got {self.max_characters}, expected at least rules.min_characters "
                f"({self.min_characters}); raise the former or lower the latter"
            )
        return self


class FilterConfig(Section):
    """What `harness filter` drops.

    min_score: pairs whose cosine lies below; 0.4 is Conan-embedding's (arXiv 2408.15710, section 3.1), found for
        bge-large-zh-v1.5. Other models spread their cosines differently: see the report's histogram.
    consistency_top_k: pairs whose positive is not among the k nearest of `corpus_sample` documents to its query
        (E5, arXiv 2212.03533, section 3.1: k = 2 of a million).
    """

    rules: RuleConfig = RuleConfig()
    duplicates: Literal["none", "exact", "near"] = "near"  # near drops the exact ones as well
    near_threshold: float = Field(0.8, gt=0, le=0.95)  # Jaccard similarity of character shingles, of both sides
    shingle_characters: int = Field(5, ge=1)
    num_hashes: int = Field(128, ge=16)  # of a text: the standard error of a similarity is at most 0.5 / sqrt(this)
    min_score: float = Field(0.4, ge=-1, le=1)
    consistency_top_k: int | None = Field(None, ge=1)
    corpus_sample: int = Field(1_000_000, ge=1)
