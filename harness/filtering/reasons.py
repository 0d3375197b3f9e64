"""The reasons for dropping a pair, in the order of the stages."""

from __future__ import annotations

from enum import IntEnum


class Reason(IntEnum):
    """KEPT, or why a pair was dropped. The reason of a dropped row is that of its pair that passed the most stages."""

    KEPT = 0
    UNUSABLE = 1
    EMPTY = 2
    TOO_SHORT = 3
    TOO_LONG = 4
    URLS_ONLY = 5
    SYMBOLS = 6
    CHARACTER_RUNS = 7
    REPEATED_LINES = 8
    POSITIVE_IS_QUERY = 9
    EXACT_DUPLICATE = 10
    NEAR_DUPLICATE = 11
    LOW_SCORE = 12
    INCONSISTENT = 13

    @property
    def label(self) -> str:
        return self.name.lower()


DROPPED = tuple(reason for reason in Reason if reason is not Reason.KEPT)
EXPLAINED = {
    Reason.UNUSABLE: "a field is missing or of the wrong type, or the line is broken",
    Reason.EMPTY: "the query or the positive is white space",
    Reason.TOO_SHORT: "fewer than rules.min_characters",
    Reason.TOO_LONG: "more than rules.max_characters",
    Reason.URLS_ONLY: "nothing but web addresses",
    Reason.SYMBOLS: "more than rules.max_symbol_share are neither letters nor digits",
    Reason.CHARACTER_RUNS: "more than rules.max_run_share stand in runs of one character",
    Reason.REPEATED_LINES: "more than rules.max_repeated_line_share of the lines repeat an earlier one",
    Reason.POSITIVE_IS_QUERY: "query and positive are one text: equal after normalisation, or encoded alike",
    Reason.EXACT_DUPLICATE: "an earlier pair is the same: equal after normalisation, or encoded alike",
    Reason.NEAR_DUPLICATE: "query and positive are both as similar as near_threshold to those of an earlier kept pair",
    Reason.LOW_SCORE: "the model's cosine lies below min_score",
    Reason.INCONSISTENT: "the positive is not among the consistency_top_k nearest documents",
}
