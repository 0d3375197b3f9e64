"""What one pass over a source found, and the checks that need the whole source."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from harness.data.source.facts import FileFacts
from harness.data.source.files import BadRow
from harness.data.table.npy import open_array
from harness.types import SourceKind

CHUNK_ROWS = 16_384


@dataclass
class SourceFacts:
    """Counts, names and hash gathered in one pass over a source."""

    num_rows: int = 0
    num_texts: int = 0
    bad_rows: int = 0
    messages: list[str] = field(default_factory=list)  # of the first bad rows
    files: list[FileFacts] = field(default_factory=list)  # the rows of the first file come first, and so on
    label_names: list[str] = field(default_factory=list)
    content_hash: str = ""  # SHA-256 of the examples as read


def check_usable(name: str, kind: SourceKind, facts: SourceFacts) -> None:
    """Check that there are rows, and for classification labels, to train on.

    Raises:
        ValueError: there are not.
    """
    if not facts.num_rows:
        reasons = [f"; left out: {rows} {why}" for file in facts.files for why, rows in file.skipped.items()]
        if facts.messages:
            reasons = [f"; the first of {facts.bad_rows} bad rows is {facts.messages[0]}"]
        raise ValueError(f"{name}: got no usable row, expected at least one{''.join(reasons[:1])}")
    if kind == "classification" and len(facts.label_names) < 2:
        raise ValueError(
            f"{name}: label: got only the label {facts.label_names[0]!r}, expected at least two "
            "(texts of other labels are the negatives)"
        )


def rows_of_single_labels(folder: Path, facts: SourceFacts) -> dict[tuple[str, int], BadRow]:
    """By file and line, the rows whose label no other row has. Such a row has no positive."""
    label_R = open_array(folder / "label_R.npy")
    line_R = open_array(folder / "line_R.npy")
    count_C = np.bincount(label_R, minlength=len(facts.label_names))
    single: dict[tuple[str, int], BadRow] = {}
    if (count_C > 1).all():
        return single
    end_of_file = np.cumsum([file.rows for file in facts.files])
    for start in range(0, len(label_R), CHUNK_ROWS):
        for row in start + np.flatnonzero(count_C[label_R[start : start + CHUNK_ROWS]] == 1):
            name = repr(facts.label_names[label_R[row]][:48])
            got = f"a label with one example ({name})"
            file = facts.files[int(np.searchsorted(end_of_file, row, side="right"))]
            single[file.path, int(line_R[row])] = BadRow("label", got, "at least two examples of every label")
    return single
