"""Rows of the source as they came: what they hold for the filter, and the same row with some of its positives."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.data.source.formats import BadRow, RowFormat, detect_format, read_rows
from harness.data.source.validation import validate
from harness.types import Example

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RowPairs:
    """What the filter judges of a row."""

    query: str
    positives: list[str]  # at least one; blank ones too
    prompt: str | None = None  # the row's own query instruction


def read_formatted(path: str, split: str) -> Iterator[tuple[int, Row | BadRow, RowFormat | None]]:
    """(line, row, format) of every row; the format is that of the first row that shows one, None before it."""
    row_format: RowFormat | None = None
    for line, row in read_rows(path, split):
        if row_format is None and not isinstance(row, BadRow):
            detected = detect_format(row, "retrieval")
            if isinstance(detected, BadRow):
                row = detected
            else:
                row_format = detected
        yield line, row, row_format


def pairs_of(line: int, row: Row | BadRow, row_format: RowFormat | None) -> RowPairs | BadRow:
    """The pairs of a row, or why it cannot be used."""
    if isinstance(row, BadRow):
        return row
    assert row_format is not None
    assert row_format.positive is not None
    query, positives = row.get(row_format.texts[0]), _listed(row.get(row_format.positive))
    blank = [isinstance(text, str) and not text.strip() for text in (query, *positives)]
    if blank[0] or (positives and all(blank[1:])):
        return RowPairs(str(query), [str(text) for text in positives] or [""])
    checked = validate(line, with_positives(row, row_format, [i for i, b in enumerate(blank[1:]) if not b]), row_format)
    if not isinstance(checked, Example):
        return checked
    return RowPairs(checked.texts[0], positives, checked.prompt)


def with_positives(row: Row, row_format: RowFormat, kept: Sequence[int]) -> Row:
    """The row with some of its positives and their scores, in the order of `kept`; all other keys as they are."""
    changed = dict(row)
    for name in (row_format.positive, row_format.positive_scores):
        values = row.get(name) if name else None
        if isinstance(values, list) and len(kept) < len(values):
            changed[str(name)] = [values[i] for i in kept if i < len(values)]
    return changed


def _listed(value: Any) -> list[Any]:
    """A bare text as a list; what is neither has no positives, and validation says so."""
    return value if isinstance(value, list) else [value] if isinstance(value, str) else []
