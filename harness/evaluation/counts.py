"""What was counted while evaluation data were read, as one line each: nothing is left out of a score unsaid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

Counts = dict[str, int]  # a key of COUNTED, or of a column → how often; what did not occur is not in it
_SHOWN_COLUMNS = 12

COUNTED = {
    "judgements_of_missing_documents": "judgements of a document that the corpus lacks (counts as never found)",
    "judgements_of_unknown_queries": "judgements of a query that the queries file lacks (left out)",
    "repeated_judgements": "judgements given again with the same grade (count once)",
    "queries_without_judgements": "queries without a judgement (not scored)",
    "queries_without_relevant_documents": "queries without a document judged above 0 (they score 0)",
    "own_documents": "queries that are documents, same id and same text (their own document is not ranked)",
    "identical_ids": "queries with the id of a document (that document is not ranked: ignore_identical_ids)",
    "own_documents_judged_relevant": "of these, judged relevant (counts as never found)",
    "rows_without_positives": "rows without a positive (not scored, as in mteb)",
    "rows_without_negatives": "rows without a negative (not scored, as in mteb)",
    "pairs_of_one_score": "pairs, and all of one score (no correlation: null)",
    "queries_with_both_labels": "queries with a text of label 1 and of label 0 (taken as a positive)",
    "row_scores": "rows with scores of a ranker (not used)",
    "row_prompts": "rows with a prompt of their own (not used)",
    "texts_not_drawn": "texts that are not among those drawn (mteb embeds 2,048)",
    "test_texts_of_labels_without_training_text": "test texts of a label without a training text (never right)",
}
_UNUSED = "column_not_used: "  # a key that begins so ends with a column; it counts the rows that have a value there
_EXPECTED = {"queries_without_judgements", "own_documents", "identical_ids", "texts_not_drawn"}  # no reason to worry


def only_nonzero(**counts: int) -> Counts:
    """The counts that are above 0."""
    return {name: count for name, count in counts.items() if count}


def note_unused(rows_of_column: Counter[str], row: Mapping[str, Any], used: Collection[str]) -> None:
    """Count the columns of a row that have a value and are not used."""
    empty: tuple[Any, ...] = (None, "", [], {})
    rows_of_column.update(name for name, value in row.items() if name not in used and value not in empty)


def unused_columns(rows_of_column: Mapping[str, int]) -> Counts:
    """The counts for columns that are not used, from the number of rows that have them."""
    return {f"{_UNUSED}{name}": rows for name, rows in rows_of_column.items()}


def count_lines(name: str, counts: Mapping[str, int]) -> list[tuple[bool, str]]:
    """(whether it is a warning, line) for each count of the data set `name`."""
    known = {key: count for key, count in counts.items() if not key.startswith(_UNUSED)}
    lines = [(key not in _EXPECTED, f"{name}: {COUNTED[key]}: {count:,}") for key, count in known.items()]
    unused = [repr(key.removeprefix(_UNUSED))[1:-1] for key in counts if key not in known]
    more = f" and {len(unused) - _SHOWN_COLUMNS} more" if len(unused) > _SHOWN_COLUMNS else ""
    shown = ", ".join(unused[:_SHOWN_COLUMNS]) + more
    return [*lines, *([(False, f"{name}: columns not used: {shown}")] if unused else [])]
