"""Stage 1: rules that recognise junk texts in any language."""

from __future__ import annotations

import re
import unicodedata

from harness.filtering.config import RuleConfig
from harness.filtering.reasons import Reason

_URLS = re.compile(r"(?:(?:https?://|www\.)\S+\s*)+", re.IGNORECASE)
_NO_WORD = re.compile(r"[^\w\s]|_")
_RUN = re.compile(r"(\S)\1{3,}")


def broken_rule(text: str, rules: RuleConfig) -> Reason | None:
    """The reason of the first rule that a text breaks; None if the text breaks no rule."""
    stripped = text.strip()
    if not stripped:
        return Reason.EMPTY
    if len(stripped) < rules.min_characters:
        return Reason.TOO_SHORT
    if len(stripped) > rules.max_characters:
        return Reason.TOO_LONG
    if _URLS.fullmatch(stripped):
        return Reason.URLS_ONLY
    if symbol_share(stripped) > rules.max_symbol_share:
        return Reason.SYMBOLS
    if run_share(stripped) > rules.max_run_share:
        return Reason.CHARACTER_RUNS
    if repeated_line_share(stripped) > rules.max_repeated_line_share:
        return Reason.REPEATED_LINES
    return None


def normalised(text: str) -> str:
    """The text in the form used for comparisons: Unicode NFKC, case folded, each run of white space one space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def symbol_share(text: str) -> float:
    """Share of the characters, not counting white space, that are not a letter, mark or digit of any script."""
    symbols = [c for c in _NO_WORD.findall(text) if not unicodedata.category(c).startswith("M")]
    return len(symbols) / max(1, _num_visible(text))


def run_share(text: str) -> float:
    """Share of the characters, not counting white space, that are in runs of four or more equal characters."""
    return sum(len(run.group()) for run in _RUN.finditer(text)) / max(1, _num_visible(text))


def repeated_line_share(text: str) -> float:
    """Share of the non-blank lines that are equal to an earlier line (Gopher, arXiv 2112.11446, table A1)."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return 1 - len(set(lines)) / max(1, len(lines))


def _num_visible(text: str) -> int:
    return len("".join(text.split()))
