"""How a source is to be read, and what was found in each of its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

IGNORE = "ignore"  # the key of `columns` that names the columns to leave out


@dataclass(frozen=True, slots=True)
class ReadSettings:
    """What the recipe says about reading a source, apart from path and split.

    columns: our name of a column to the name that the files use; for `negative` and `ignore` several names.
    config_name: the configuration of a hub data set. corpus: the path of the documents that rows name by id.
    """

    columns: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    config_name: str | None = None
    corpus: str | None = None

    def key(self) -> list[Any]:
        """What a cache of the rows depends on."""
        return [sorted(self.columns.items()), self.config_name, self.corpus]


@dataclass
class FileFacts:
    """What one file held. The counts are rows; a column counts where a row has it, even if it is null there.

    path: the file. rows: those that are used. used, unused: columns. skipped: by reason, rows that were left out.
    notes: by remark, rows that are used but have something a reader should know. negatives: rows by their number of
    negatives (retrieval). highest: the largest score without its sign (sts).
    """

    path: str = ""
    rows: int = 0
    scored: int = 0
    used: dict[str, int] = field(default_factory=dict)
    unused: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    negatives: dict[str, int] = field(default_factory=dict)
    highest: float = 0.0

    def add(self, later: FileFacts) -> None:
        """Add the facts of rows that follow."""
        self.rows, self.scored = self.rows + later.rows, self.scored + later.scored
        self.highest = max(self.highest, later.highest)
        for name in ("used", "unused", "skipped", "notes", "negatives"):
            counts = getattr(self, name)
            for key, count in getattr(later, name).items():
                counts[key] = counts.get(key, 0) + count

    def skip(self, reason: str, rows: int = 1) -> None:
        """Count rows that are left out."""
        self.skipped[reason] = self.skipped.get(reason, 0) + rows

    def note(self, remark: str, rows: int = 1) -> None:
        """Count rows that are used all the same."""
        self.notes[remark] = self.notes.get(remark, 0) + rows
