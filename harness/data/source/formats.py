"""Recognises which columns of a data file hold queries, positives, labels and so on.

Takes the rows of a file; returns each row with the column format of the file. To add a column format, add a line to the
table `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from harness.data.source.files import BadRow, Row, read_rows
from harness.types import SourceKind


@dataclass(frozen=True, slots=True)
class RowFormat:
    """The name of the column for each kind of content; all other columns of a row are ignored."""

    kind: SourceKind
    texts: tuple[str, ...]  # columns with one text: the query, the two texts of a pair, or the text to classify
    positive: str | None = None
    negative: str | None = None  # the column may be missing; columns NAME_1, NAME_2 ... are read as well
    bare_text: bool = True  # whether positive and negative may be one text instead of a list of texts
    positive_scores: str | None = None
    negative_scores: str | None = None
    prompt: str | None = None
    target: str | None = None  # the score or the label
    title: str | None = None  # put before the text, separated by a space

    @property
    def required(self) -> tuple[str, ...]:
        return (*self.texts, *(name for name in (self.positive, self.target) if name))

    @property
    def optional(self) -> tuple[str, ...]:
        names = (self.negative, self.positive_scores, self.negative_scores, self.prompt, self.title)
        return tuple(name for name in names if name)

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.required, *self.optional)

    def __str__(self) -> str:
        return "(" + ", ".join([*self.required, *(f"[{name}]" for name in self.optional)]) + ")"


FORMATS = (  # the first format that fits is used
    RowFormat(
        "retrieval",
        ("query",),
        positive="pos",
        negative="neg",
        bare_text=False,
        positive_scores="pos_scores",
        negative_scores="neg_scores",
        prompt="prompt",
    ),
    RowFormat("retrieval", ("query",), positive="positive", negative="negative"),
    RowFormat("retrieval", ("anchor",), positive="positive", negative="negative"),
    RowFormat("retrieval", ("prompt",), positive="response"),
    RowFormat("sts", ("text1", "text2"), target="score"),
    RowFormat("sts", ("sentence1", "sentence2"), target="score"),
    RowFormat("classification", ("text",), target="label"),
    RowFormat("corpus", ("text",), title="title"),
)


@dataclass(frozen=True, slots=True)
class FormattedRow:
    """A row as read from the file, and the format that says what its columns hold."""

    columns: Row
    row_format: RowFormat


def read_formatted_rows(path: str, split: str, kind: SourceKind) -> Iterator[tuple[int, FormattedRow | BadRow]]:
    """Stream (line or row number, row) of a source. The first readable row that fits a format sets it for all rows.

    See `read_rows` for `path`, `split`, and the errors raised.
    """
    row_format: RowFormat | None = None
    for line, row in read_rows(path, split):
        if isinstance(row, BadRow):
            yield line, row
            continue
        if row_format is None:
            detected = detect_format(row, kind)
            if isinstance(detected, BadRow):
                yield line, detected
                continue
            row_format = detected
        yield line, FormattedRow(row, row_format)


def detect_format(columns: Collection[str], kind: SourceKind) -> RowFormat | BadRow:
    """The first format of `kind` whose required columns are all among `columns`, or a BadRow if no format fits.

    If one format has more columns in common with the row than every other format, the BadRow names the missing column
    of this format. Otherwise it lists the columns of all formats of the kind.
    """
    formats = [row_format for row_format in FORMATS if row_format.kind == kind]
    for row_format in formats:
        if set(row_format.required) <= set(columns):
            return row_format
    other_kinds = {other.kind for other in FORMATS if set(other.required) <= set(columns)} - {"corpus"}
    num_shared = [sum(name in columns for name in row_format.names) for row_format in formats]
    if not other_kinds and max(num_shared) > 0 and num_shared.count(max(num_shared)) == 1:
        likely_format = formats[num_shared.index(max(num_shared))]
        missing = next(name for name in likely_format.required if name not in columns)
        return BadRow(missing, "no such field", f"the fields {likely_format}")
    hint = f"; these columns fit kind: {' or '.join(sorted(other_kinds))}" if other_kinds else ""
    seen = ascii(sorted(map(str, columns)))[1:-1][:200] or "none"
    return BadRow("columns", seen, f"{' or '.join(map(str, formats))} for kind {kind}{hint}")
