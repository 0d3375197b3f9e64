"""The filter's rules for junk texts."""

from __future__ import annotations

import pytest

from harness.filtering.config import FilterConfig, RuleConfig
from harness.filtering.duplicates import pair_hash
from harness.filtering.junk_rules import broken_rule, normalised, repeated_line_share, run_share, symbol_share
from harness.filtering.reasons import EXPLAINED, Reason


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (" \n\t", Reason.EMPTY),
        ("a", Reason.TOO_SHORT),
        ("ab " * 40, Reason.TOO_LONG),
        ("https://example.org/a www.example.org", Reason.URLS_ONLY),
        ("#### //// a", Reason.SYMBOLS),
        ("\u200b\u200b\u200b", Reason.SYMBOLS),
        ("noooo way", Reason.CHARACTER_RUNS),
        ("one\ntwo\none\none", Reason.REPEATED_LINES),
        ("see https://example.org", None),
        ("什么是机器学习?", None),
        ("क्या यह हिन्दी है", None),
        ("42", None),
    ],
)
def test_a_text_breaks_the_first_rule_that_it_breaks(text: str, reason: Reason | None) -> None:
    """Combining marks of scripts such as Devanagari count as letters. A number can be an answer, so it is kept."""
    assert broken_rule(text, RuleConfig(max_characters=100)) == reason


def test_shares_are_counted_beside_white_space() -> None:
    assert symbol_share("ab  #_ ") == 1 / 2
    assert symbol_share("हि") == 0
    assert run_share("aaaa bbb c") == 4 / 8
    assert repeated_line_share("x\n\n x \ny") == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("setting", "value", "text"),
    [
        ("min_characters", 4, "abcd"),
        ("max_characters", 4, "abcd"),
        ("max_symbol_share", 0.5, "ab##"),
        ("max_run_share", 0.5, "aaaabcde"),
        ("max_repeated_line_share", 0.5, "a b\na b"),
    ],
)
def test_a_text_at_a_limit_is_kept_and_one_beyond_it_is_not(setting: str, value: float, text: str) -> None:
    assert broken_rule(text, RuleConfig(**{setting: value})) is None
    beyond = value + 1 if setting == "min_characters" else value - (1 if setting == "max_characters" else 0.01)
    assert broken_rule(text, RuleConfig(**{setting: beyond})) is not None


def test_limits_that_nothing_can_pass_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"rules\.max_characters: got 3, expected at least rules\.min_characters \(4\)"
    ):
        FilterConfig(rules=RuleConfig(min_characters=4, max_characters=3))


def test_case_width_and_white_space_do_not_make_another_text() -> None:
    assert normalised("  Ａ\u00a0B\n c") == "a b c"
    assert pair_hash("A b", "c") == pair_hash("a  B", "C")


def test_every_reason_is_explained_in_the_order_of_the_stages() -> None:
    assert list(EXPLAINED) == [reason for reason in Reason if reason is not Reason.KEPT]
    assert list(EXPLAINED) == sorted(EXPLAINED)
