"""Gives the values of a csv row the types that its format says: numbers for scores, lists for lists of texts."""

from __future__ import annotations

import json
import re
from typing import Any

from harness.data.source.columns.row_format import RowFormat
from harness.data.source.containers.rows import BadRow, Row

_PYTHON_LIST = re.compile(r"\[\s*'.*'\s*,?\s*\]", re.DOTALL)

_WHOLE = re.compile(r"-?\d+\.0")


def typed_row(row: Row, row_format: RowFormat, label: str | None) -> Row | BadRow:
    """The row with numbers for scores and lists for JSON lists. Empty optional cells become null."""
    typed = dict(row)
    texts = [name for name in (row_format.positive, *(row_format.negatives or ())) if name in row]
    scores = [name for name in (row_format.positive_scores, row_format.negative_scores) if name in row]
    if row_format.kind == "sts" and row_format.target in row:
        scores.append(row_format.target)
    for name in texts:
        value = row[str(name)]
        if _PYTHON_LIST.fullmatch(value.strip()):
            return BadRow(str(name), f"a Python list {value[:40]!r}", 'one text, or a JSON list ["...", "..."]')
        typed[str(name)] = _list_or(value, [value] if not row_format.bare_text else value)
    for name in scores:
        typed[str(name)] = _list_or(row[str(name)], _number_or_text(row[str(name)]))
    if row_format.kind == "classification" and _WHOLE.fullmatch(row.get(str(row_format.target), "")):
        typed[str(row_format.target)] = float(row[str(row_format.target)])  # 1.0, as pandas writes 1 beside a gap
    if label is not None:
        typed[label] = _list_or(row[label], row[label])
    for optional in (*(row_format.negatives or ()), row_format.prompt, row_format.title, *scores):
        if optional in row and row[str(optional)] == "":
            typed[str(optional)] = None
    return typed


def _list_or(value: str, otherwise: Any) -> Any:
    """The JSON list that a cell holds; `otherwise` if it holds none."""
    if not value.lstrip().startswith("["):
        return otherwise
    try:
        parsed = json.loads(value)
    except (ValueError, RecursionError):
        return otherwise
    return parsed if isinstance(parsed, list) else otherwise


def _number_or_text(value: str) -> Any:
    try:
        return value if "_" in value else float(value)  # Python reads 1_5 as 15
    except ValueError:
        return value
