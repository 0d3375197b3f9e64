"""Takes a row of the source apart into (query, positive) pairs, and builds the row with only some of its positives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.data.source.files import BadRow, Row
from harness.data.source.formats import FormattedRow
from harness.data.source.validation import validate
from harness.types import Example


@dataclass(frozen=True, slots=True)
class RowPairs:
    """The texts of a row that the filter judges."""

    query: str
    positives: list[str]  # at least one; blank texts are included
    prompt: str | None = None  # the row's own query prompt


def pairs_of(line: int, row: FormattedRow | BadRow) -> RowPairs | BadRow:
    """The pairs of a row, or a BadRow that says why the row cannot be used.

    A blank text makes a row bad in training, but not here: the rules of the filter drop its pairs.
    """
    if isinstance(row, BadRow):
        return row
    columns, row_format = row.columns, row.row_format
    assert row_format.positive is not None
    query, positives = columns.get(row_format.texts[0]), _as_list(columns.get(row_format.positive))
    is_blank = [isinstance(text, str) and not text.strip() for text in (query, *positives)]
    if is_blank[0] or (positives and all(is_blank[1:])):
        return RowPairs(str(query), [str(text) for text in positives] or [""])
    not_blank = [i for i, blank in enumerate(is_blank[1:]) if not blank]
    checked = validate(line, with_positives(row, not_blank), row_format)
    if not isinstance(checked, Example):
        return checked
    return RowPairs(checked.texts[0], positives, checked.prompt)


def with_positives(row: FormattedRow, kept: Sequence[int]) -> Row:
    """The row with only the positives at the positions `kept`, and their scores; all other columns are unchanged."""
    changed = dict(row.columns)
    for name in (row.row_format.positive, row.row_format.positive_scores):
        values = row.columns.get(name) if name else None
        if isinstance(values, list) and len(kept) < len(values):
            changed[str(name)] = [values[i] for i in kept if i < len(values)]
    return changed


def _as_list(value: Any) -> list[Any]:
    """A list as it is, a single text as a list of one. Other values give an empty list, which validation reports."""
    return value if isinstance(value, list) else [value] if isinstance(value, str) else []
