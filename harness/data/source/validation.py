"""Turns a row and its format into an `Example`, or into a `BadRow` that says which field is wrong.

Texts are kept exactly as they are in the file: nothing is repaired, and repeated texts are not removed.
"""

from __future__ import annotations

import reprlib
from typing import Any

import numpy as np

from harness.data.source.columns.row_format import RowFormat
from harness.data.source.containers.rows import BadRow, InvalidField, Row
from harness.types import Example

FLOAT32_MAX = float(np.finfo(np.float32).max)
_MISSING = object()
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 48
_SHORT.maxlist = _SHORT.maxdict = 3


def validate(line: int, row: Row, row_format: RowFormat) -> Example | BadRow:
    """The row as an example, or a BadRow for the first field of `row_format` that is invalid.

    A valid text is a string that UTF-8 can encode and that is more than white space. A valid score is a finite float32
    number.
    """
    try:
        if row_format.kind == "retrieval":
            return _retrieval(line, row, row_format)
        if row_format.kind == "corpus":
            return Example(line, (_document(row, row_format),))
        texts = tuple(_text(row.get(name, _MISSING), name) for name in row_format.texts)
        assert row_format.target is not None
        target = row.get(row_format.target, _MISSING)
        if row_format.kind == "sts":
            return Example(line, texts, score=_number(target, row_format.target))
        return Example(line, texts, label=_label(target, row_format.target))
    except InvalidField as error:
        return error.bad_row


def _retrieval(line: int, row: Row, row_format: RowFormat) -> Example:
    (query_name,) = row_format.texts
    assert row_format.positive is not None
    query = _text(row.get(query_name, _MISSING), query_name)
    positives = _texts(row.get(row_format.positive, _MISSING), row_format.positive, row_format.bare_text)
    if not positives:
        raise InvalidField(row_format.positive, "list []", "at least one text")
    negatives: list[str] = []
    for name in _negative_columns(row, row_format):
        if row[name] is not None:
            negatives += _texts(row[name], name, row_format.bare_text or name != row_format.negative)
    return Example(
        line,
        (query, *positives, *negatives),
        num_positives=len(positives),
        prompt=_prompt(row, row_format.prompt),
        document_scores=_document_scores(row, row_format, len(positives), len(negatives)),
    )


def _document(row: Row, row_format: RowFormat) -> str:
    """Title and text joined with a space, as mteb joins them."""
    (name,) = row_format.texts
    title = row.get(row_format.title) if row_format.title else None
    if not title:
        return _text(row.get(name, _MISSING), name)
    text = row.get(name, _MISSING)
    return f"{_text(title, str(row_format.title))} {text if text == '' else _text(text, name)}"


def _negative_columns(row: Row, row_format: RowFormat) -> list[str]:
    """The negative columns that the row has: NAME, then NAME_1, NAME_2 ... in the order of their numbers."""
    if row_format.negatives is not None:
        return [name for name in row_format.negatives if name in row]
    name = row_format.negative
    if name is None:
        return []
    numbered = [column for column in row if column.startswith(f"{name}_") and column[len(name) + 1 :].isdecimal()]
    numbered.sort(key=lambda column: int(column[len(name) + 1 :]))
    return [name, *numbered] if name in row else numbered


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise InvalidField(field, _describe(value), "a text")
    if not value.strip():
        raise InvalidField(field, _describe(value), "a text that is not empty")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        got = f"lone surrogate U+{ord(value[error.start]):04X} at character {error.start + 1}"
        raise InvalidField(field, got, "text that UTF-8 can hold") from None
    return value


def _texts(value: Any, field: str, bare_text: bool) -> list[str]:
    if isinstance(value, str) and bare_text:
        return [_text(value, field)]
    if not isinstance(value, list):
        raise InvalidField(field, _describe(value), "a text or a list of texts" if bare_text else "a list of texts")
    return [_text(item, f"{field}[{i}]") for i, item in enumerate(value)]


def _number(value: Any, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidField(field, _describe(value), "a number")
    if not abs(value) <= FLOAT32_MAX:  # false for NaN too
        raise InvalidField(field, _describe(value), "a finite number (float32)")
    return float(value)


def _label(value: Any, field: str) -> str:
    is_whole = isinstance(value, float) and value.is_integer()  # pandas writes 1.0 for 1 where a column had gaps
    if is_whole or (isinstance(value, int) and not isinstance(value, bool)):
        return str(int(value))
    if not isinstance(value, str):
        raise InvalidField(field, _describe(value), "a text or a whole number")
    return _text(value, field)


def _prompt(row: Row, field: str | None) -> str | None:
    """The row's own prompt; None if the row has none. An empty prompt replaces the task's prompt by no prompt."""
    value = row.get(field) if field else None
    if value is None or value == "":
        return value
    return _text(value, str(field))


def _document_scores(
    row: Row, row_format: RowFormat, num_positives: int, num_negatives: int
) -> tuple[float, ...] | None:
    """Scores of the positives, then of the negatives; NaN for a side without scores, None if neither side has any."""
    sides = ((row_format.positive_scores, num_positives), (row_format.negative_scores, num_negatives))
    if all(field is None or row.get(field) is None for field, _ in sides):
        return None
    scores: list[float] = []
    for field, count in sides:
        value = row.get(field) if field else None
        if value is None:
            scores += [float("nan")] * count
        elif count == 1 and not isinstance(value, list):
            scores.append(_number(value, str(field)))
        elif not isinstance(value, list):
            raise InvalidField(str(field), _describe(value), "a list of numbers")
        elif len(value) != count:
            raise InvalidField(str(field), f"{len(value)} scores", f"one per text ({count})")
        else:
            scores += [_number(item, f"{field}[{i}]") for i, item in enumerate(value)]
    return tuple(scores)


def _describe(value: Any) -> str:
    """Type and beginning of a value, in one line of at most 60 characters."""
    if value is _MISSING:
        return "no such field"
    if value is None:
        return "null"
    text = f"{type(value).__name__} {_SHORT.repr(value)}"
    return text if len(text) <= 60 else text[:57] + "..."
