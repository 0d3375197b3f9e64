"""Every field of a row is checked; a wrong field gives a message of one line."""

from __future__ import annotations

import math
from typing import Any

import pytest

from harness.data.source.files import BadRow
from harness.data.source.formats import RowFormat, detect_format
from harness.data.source.validation import validate
from harness.types import Example

FLAG: dict[str, Any] = {"query": "q", "pos": ["p1", "p2"], "neg": ["n1", "n2", "n3"]}
PLAIN: dict[str, Any] = {"query": "q", "positive": "p", "negative": ["n1", "n2"]}
PAIR: dict[str, Any] = {"text1": "a", "text2": "b", "score": 2.5}
LABELLED: dict[str, Any] = {"text": "a", "label": "x"}


def _format(row: dict[str, Any], kind: Any) -> RowFormat:
    found = detect_format(row, kind)
    assert isinstance(found, RowFormat)
    return found


def _check(row: dict[str, Any], good: dict[str, Any]) -> Example | BadRow:
    kind: Any = "sts" if "score" in good else "classification" if "label" in good else "retrieval"
    return validate(7, row, _format(good, kind))


def test_a_flagembedding_row_keeps_its_texts_scores_and_prompt() -> None:
    row = FLAG | {"pos_scores": [1, 0.5], "neg_scores": [0.1, 0.2, -3], "prompt": "find: ", "id": 5}
    example = _check(row, FLAG)
    assert example == Example(
        7,
        ("q", "p1", "p2", "n1", "n2", "n3"),
        num_positives=2,
        prompt="find: ",
        document_scores=(1.0, 0.5, 0.1, 0.2, -3.0),
    )


def test_scores_of_one_side_leave_the_other_not_a_number() -> None:
    example = _check(FLAG | {"neg_scores": [1, 2, 3]}, FLAG)
    assert isinstance(example, Example)
    assert example.document_scores is not None
    assert [math.isnan(score) for score in example.document_scores] == [True, True, False, False, False]


@pytest.mark.parametrize("absent", [{}, {"neg": None}, {"neg": []}, {"pos_scores": None, "prompt": None}])
def test_optional_fields_may_be_missing_or_null(absent: dict[str, Any]) -> None:
    example = _check({"query": "q", "pos": ["p"]} | absent, FLAG)
    assert example == Example(7, ("q", "p"), num_positives=1)


def test_an_empty_prompt_is_a_prompt() -> None:
    """An empty prompt means that this query has no prompt, even if its task has one."""
    example = _check(FLAG | {"prompt": ""}, FLAG)
    assert isinstance(example, Example)
    assert example.prompt == ""


def test_positive_and_negative_may_be_text_or_list() -> None:
    assert _check(PLAIN, PLAIN) == Example(7, ("q", "p", "n1", "n2"), num_positives=1)
    row = {"query": "q", "positive": ["p1", "p2"], "negative": "n"}
    assert _check(row, PLAIN) == Example(7, ("q", "p1", "p2", "n"), num_positives=2)


def test_numbered_negatives_come_in_the_order_of_their_numbers() -> None:
    """This includes negatives that the first row of the file does not have: nothing is dropped silently."""
    good = {"anchor": "q", "positive": "p"}
    row = good | {"negative_10": "n10", "negative_2": "n2", "negative": "n", "negative_3": None, "negative_x": "no"}
    assert _check(row, good) == Example(7, ("q", "p", "n", "n2", "n10"), num_positives=1)


def test_repeated_texts_are_kept() -> None:
    row = {"query": "q", "pos": ["p", "p"], "neg": ["p", "n", "n"]}
    assert _check(row, FLAG) == Example(7, ("q", "p", "p", "p", "n", "n"), num_positives=2)


def test_texts_are_kept_as_they_stand() -> None:
    example = _check(PLAIN | {"query": "  q\n\t"}, PLAIN)
    assert isinstance(example, Example)
    assert example.texts[0] == "  q\n\t"


def test_scores_and_labels_are_read() -> None:
    assert _check(PAIR | {"score": 3}, PAIR) == Example(7, ("a", "b"), score=3.0)
    assert _check(LABELLED, LABELLED) == Example(7, ("a",), label="x")
    assert _check(LABELLED | {"label": 3}, LABELLED) == Example(7, ("a",), label="3")


@pytest.mark.parametrize(
    ("good", "change", "message"),
    [
        (FLAG, {"query": 5}, "query: got int 5, expected a text"),
        (FLAG, {"query": None}, "query: got null, expected a text"),
        (FLAG, {"query": " \n\u3000"}, "query: got str ' \\n\\u3000', expected a text that is not empty"),
        (FLAG, {"query": ["q"]}, "query: got list ['q'], expected a text"),
        (FLAG, {"query": b"q"}, "query: got bytes b'q', expected a text"),
        (FLAG, {"pos": []}, "pos: got list [], expected at least one text"),
        (FLAG, {"pos": "p"}, "pos: got str 'p', expected a list of texts"),
        (FLAG, {"pos": ["p", ""]}, "pos[1]: got str '', expected a text that is not empty"),
        (FLAG, {"neg": ["n", None]}, "neg[1]: got null, expected a text"),
        (FLAG, {"neg": {"a": 1}}, "neg: got dict {'a': 1}, expected a list of texts"),
        (FLAG, {"pos_scores": [1]}, "pos_scores: got 1 scores, expected one per text (2)"),
        (FLAG, {"neg_scores": [1, 2, 3, 4]}, "neg_scores: got 4 scores, expected one per text (3)"),
        (FLAG, {"neg_scores": 1.0}, "neg_scores: got float 1.0, expected a list of numbers"),
        (FLAG, {"neg_scores": [1, True, 3]}, "neg_scores[1]: got bool True, expected a number"),
        (FLAG, {"pos_scores": [1, math.inf]}, "pos_scores[1]: got float inf, expected a finite number (float32)"),
        (FLAG, {"prompt": 5}, "prompt: got int 5, expected a text"),
        (PLAIN, {"positive": 5}, "positive: got int 5, expected a text or a list of texts"),
        (PLAIN, {"positive": ""}, "positive: got str '', expected a text that is not empty"),
        (PLAIN, {"negative_1": 3}, "negative_1: got int 3, expected a text or a list of texts"),
        (PAIR, {"text2": ""}, "text2: got str '', expected a text that is not empty"),
        (PAIR, {"score": "2.5"}, "score: got str '2.5', expected a number"),
        (PAIR, {"score": True}, "score: got bool True, expected a number"),
        (PAIR, {"score": None}, "score: got null, expected a number"),
        (PAIR, {"score": math.nan}, "score: got float nan, expected a finite number (float32)"),
        (PAIR, {"score": 1e39}, "score: got float 1e+39, expected a finite number (float32)"),
        (PAIR, {"score": -(10**400)}, "score: got int -1000"),
        (LABELLED, {"label": " "}, "label: got str ' ', expected a text that is not empty"),
        (LABELLED, {"label": True}, "label: got bool True, expected a text or a whole number"),
        (LABELLED, {"label": 1.5}, "label: got float 1.5, expected a text or a whole number"),
    ],
)
def test_a_bad_field_is_named_with_what_was_got_and_expected(
    good: dict[str, Any], change: dict[str, Any], message: str
) -> None:
    found = _check(good | change, good)
    assert isinstance(found, BadRow)
    assert found.message("a/b.jsonl", 7).startswith(f"a/b.jsonl:7: {message}")


@pytest.mark.parametrize(
    ("good", "field"),
    [(FLAG, "query"), (FLAG, "pos"), (PLAIN, "positive"), (PAIR, "text1"), (PAIR, "score"), (LABELLED, "label")],
)
def test_a_missing_field_is_named(good: dict[str, Any], field: str) -> None:
    found = _check({name: value for name, value in good.items() if name != field}, good)
    assert isinstance(found, BadRow)
    assert (found.field, found.got) == (field, "no such field")


@pytest.mark.parametrize("text", ["a\ud800b", "\udfff"])
def test_lone_surrogates_are_bad_because_utf8_cannot_hold_them(text: str) -> None:
    found = _check(FLAG | {"neg": ["n", text]}, FLAG)
    assert isinstance(found, BadRow)
    assert found.field == "neg[1]"
    assert found.got.startswith("lone surrogate U+D")


@pytest.mark.parametrize(
    "value",
    [["line\nbreak " * 1000], {"k\n" * 100: "v" * 1000}, b"\n" * 1000, 10**4000, [["deep"] * 100] * 100, "\u2028" * 99],
)
def test_whatever_stands_in_a_field_the_message_stays_one_short_line(value: Any) -> None:
    found = _check(PAIR | {"score": value}, PAIR)
    assert isinstance(found, BadRow)
    assert len(found.got) <= 60
    assert len(found.message("a.jsonl", 1).splitlines()) == 1


@pytest.mark.parametrize("value", [3, 3.0, "3"])
def test_a_whole_number_is_one_label_however_a_file_writes_it(value: Any) -> None:
    example = _check({**LABELLED, "label": value}, LABELLED)
    assert isinstance(example, Example)
    assert example.label == "3"
