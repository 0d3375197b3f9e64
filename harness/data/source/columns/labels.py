"""Labels beside texts: a label per row or per text says which texts are positives (1) and which are negatives (0)."""

from __future__ import annotations

import pickle
import tempfile
from array import array
from collections.abc import Iterator
from typing import Any

import numpy as np
import xxhash

from harness.data.source.columns.row_format import FormattedRow, RowFormat
from harness.data.source.containers.rows import BadRow, Row
from harness.settings.in_short import in_short
from harness.types import Example

ONLY_NEGATIVES = "queries without a text of label 1"
CONFLICT = "queries have a text with label 1 and label 0, which is taken as a positive"
POSITIVES, NEGATIVES = "pos", "neg"
_EXPECTED = "1 or 0 (for degrees use kind: sts, or keep the rows above a threshold as positives)"
_VALUE_OF_TEXT = {"1": True, "1.0": True, "true": True, "0": False, "0.0": False, "false": False}


def is_positive(value: Any) -> bool | None:
    """True for 1, False for 0, in any of the forms that files use; None for anything else."""
    if isinstance(value, str):
        return _VALUE_OF_TEXT.get(value.strip().lower())
    if isinstance(value, bool | int | float) and value in (0, 1):
        return bool(value)
    return None


def bad_label(field: str, value: Any) -> BadRow:
    """Why a label cannot be used."""
    shown = "null" if value is None else f"{type(value).__name__} {in_short(value, quoted=True)}"
    return BadRow(field, shown, _EXPECTED)


def split_by_labels(row: Row, row_format: RowFormat, label: str) -> FormattedRow | BadRow | None:
    """A row with a label per text: the texts of label 0 become negatives. None: it has no positive.

    The labels belong to the positives, or to the positives and then the negatives of the row.
    """
    assert row_format.positive is not None
    labels, texts = row[label], row.get(row_format.positive)
    texts = [texts] if isinstance(texts, str) else texts
    if not isinstance(texts, list):
        return BadRow(row_format.positive, "no list", f"a list of texts, one for each of the {len(labels)} labels")
    listed = [text for name in row_format.negatives or () for text in _as_list(row.get(name))]
    judgements = [is_positive(value) for value in labels]
    if None in judgements:
        position = judgements.index(None)
        return bad_label(f"{label}[{position}]", labels[position])
    if len(labels) not in (len(texts), len(texts) + len(listed)):
        return BadRow(label, f"{len(labels)} labels", f"one per text ({len(texts)})")
    everything = [*texts, *listed]
    judgements += [False] * (len(everything) - len(judgements))
    sides = {True: POSITIVES, False: NEGATIVES}
    changed = {name: value for name, value in row.items() if name not in (label, row_format.positive)}
    changed = {name: value for name, value in changed.items() if name not in (row_format.negatives or ())}
    changed |= {side: [] for side in sides.values()}
    for text, judgement in zip(everything, judgements, strict=True):
        changed[sides[bool(judgement)]].append(text)
    if not changed[POSITIVES]:
        return None
    scores = _all_scores(row, row_format, len(texts), len(everything))
    if scores is not None:
        for judgement, side in sides.items():
            changed[f"{side}_scores"] = [s for s, own in zip(scores, judgements, strict=True) if own is judgement]
    return FormattedRow(changed, _lists(row_format))


def _all_scores(row: Row, row_format: RowFormat, num_texts: int, num_all: int) -> list[Any] | None:
    """A score for every text, or None if some have none."""
    scores = [
        score for name in (row_format.positive_scores, row_format.negative_scores) for score in _scores(row, name)
    ]
    return scores if len(scores) == num_all else None


def _scores(row: Row, name: str | None) -> list[Any]:
    return _as_list(row.get(name)) if name else []


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _lists(row_format: RowFormat) -> RowFormat:
    return RowFormat(
        "retrieval",
        row_format.texts,
        POSITIVES,
        NEGATIVES,
        positive_scores="pos_scores",
        negative_scores="neg_scores",
        prompt=row_format.prompt,
        negatives=(NEGATIVES,),
    )


class LabelledPairs:
    """Rows with one label each, joined to one row per query: texts with label 1 are positives, with label 0 negatives.

    The rows lie in a temporary file; memory holds 16 bytes for each of them.
    """

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`, after the last row)
        self._hashes, self._offsets = array("Q"), array("q")

    def add(self, example: Example, is_positive: bool) -> None:
        """Add a checked row and its label."""
        query = example.texts[0]
        self._offsets.append(self._file.tell())
        self._hashes.append(xxhash.xxh3_64_intdigest(f"{example.prompt}\0{query}".encode()))
        positives = example.texts[1 : 1 + example.num_positives]
        negatives = example.texts[1 + example.num_positives :]
        sides = (positives, negatives) if is_positive else ((), (*positives, *negatives))
        pickle.dump((example.line, query, example.prompt, *sides), self._file, pickle.HIGHEST_PROTOCOL)

    def rows(self) -> Iterator[tuple[int, Row]]:
        """(line of the query's first row, the joined row), in the order of the first rows."""
        hash_R = np.frombuffer(self._hashes, dtype=np.uint64) if self._hashes else np.empty(0, np.uint64)
        order_R = np.argsort(hash_R, kind="stable")
        start_U = np.flatnonzero(np.diff(hash_R[order_R], prepend=~hash_R[order_R[:1]]))
        stop_U = np.append(start_U[1:], len(order_R))
        for query in np.argsort(order_R[start_U]):  # arrays only: a list of groups would fill the memory
            group = order_R[start_U[query] : stop_U[query]]
            line, query, prompt, positives, negatives = self._read(int(group[0]))
            for row in group[1:]:
                *_, more_positives, more_negatives = self._read(int(row))
                positives, negatives = (*positives, *more_positives), (*negatives, *more_negatives)
            joined = {"query": query, POSITIVES: list(positives), NEGATIVES: list(negatives)}
            yield line, joined if prompt is None else {**joined, "prompt": prompt}

    def _read(self, row: int) -> tuple[Any, ...]:
        self._file.seek(self._offsets[row])
        return pickle.load(self._file)

    def close(self) -> None:
        """Remove the temporary file."""
        self._file.close()
