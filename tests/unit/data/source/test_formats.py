"""The format of a file is recognised by its columns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.data.source.files import BadRow
from harness.data.source.formats import FormattedRow, RowFormat, detect_format, read_formatted_rows


@pytest.mark.parametrize(
    ("columns", "kind", "texts", "positive"),
    [
        (["query", "pos", "neg"], "retrieval", ("query",), "pos"),
        (["query", "pos", "neg", "pos_scores", "neg_scores", "prompt", "id"], "retrieval", ("query",), "pos"),
        (["query", "pos"], "retrieval", ("query",), "pos"),
        (["query", "positive", "negative", "extra"], "retrieval", ("query",), "positive"),
        (["anchor", "positive"], "retrieval", ("anchor",), "positive"),
        (["anchor", "positive", "negative_1", "negative_2"], "retrieval", ("anchor",), "positive"),
        (["prompt", "response"], "retrieval", ("prompt",), "response"),
        (["text1", "text2", "score"], "sts", ("text1", "text2"), None),
        (["sentence1", "sentence2", "score"], "sts", ("sentence1", "sentence2"), None),
        (["text", "label"], "classification", ("text",), None),
    ],
)
def test_formats_are_told_apart_by_their_columns(
    columns: list[str], kind: Any, texts: tuple[str, ...], positive: str | None
) -> None:
    row_format = detect_format(columns, kind)
    assert isinstance(row_format, RowFormat)
    assert (row_format.kind, row_format.texts, row_format.positive) == (kind, texts, positive)


def test_columns_of_another_kind_name_the_kind_they_fit() -> None:
    found = detect_format(["text1", "text2", "score"], "retrieval")
    assert isinstance(found, BadRow)
    assert found.field == "columns"
    assert found.got == "'score', 'text1', 'text2'"
    assert "(query, pos, [neg]" in found.expected
    assert found.expected.endswith("these columns fit kind: sts")


@pytest.mark.parametrize(
    ("columns", "kind", "missing"),
    [
        (["query", "neg"], "retrieval", "pos"),
        (["query", "negative"], "retrieval", "positive"),
        (["anchor"], "retrieval", "positive"),
        (["text1", "score", "text"], "sts", "text2"),
        (["text"], "classification", "label"),
    ],
)
def test_the_missing_column_is_named_when_the_format_is_plain(columns: list[str], kind: Any, missing: str) -> None:
    found = detect_format(columns, kind)
    assert isinstance(found, BadRow)
    assert (found.field, found.got) == (missing, "no such field")


def test_columns_that_fit_nothing_list_what_is_known() -> None:
    found = detect_format(["query"], "retrieval")
    assert isinstance(found, BadRow)
    assert found.field == "columns"
    assert "(query, pos" in found.expected
    assert "(query, positive" in found.expected


def test_column_names_cannot_break_the_message_into_lines() -> None:
    found = detect_format(["a\nb", "\u2028"], "sts")
    assert isinstance(found, BadRow)
    assert len(found.message("x", 1).splitlines()) == 1


def test_the_first_row_that_fits_decides_the_format_of_all_rows(tmp_path: Path) -> None:
    rows: list[Any] = [[], {"text": "t"}, {"anchor": "a", "positive": "b"}, {"query": "q", "pos": ["p"]}]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = list(read_formatted_rows(str(path), "train", "retrieval"))
    assert [line for line, _ in found] == [1, 2, 3, 4]
    assert [isinstance(row, BadRow) for _, row in found] == [True, True, False, False]
    formatted = [row for _, row in found if isinstance(row, FormattedRow)]
    assert [row.columns for row in formatted] == rows[2:]
    assert {row.row_format.texts for row in formatted} == {("anchor",)}
