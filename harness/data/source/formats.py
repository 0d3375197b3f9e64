"""Reads the rows of a source, each with the column format that says what its columns hold.

Every column is used, listed in the facts as not used, or refused. Training, filtering, mining and evaluation all read
rows through this module.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from harness.data.source.columns.cells import typed_row
from harness.data.source.columns.documents import CorpusTexts
from harness.data.source.columns.foreign import (
    FLAG_EMBEDDING_SETTINGS,
    ForeignFormat,
    check_flag_embedding,
    convert,
    foreign_format,
)
from harness.data.source.columns.labels import (
    CONFLICT,
    ONLY_NEGATIVES,
    LabelledPairs,
    bad_label,
    is_positive,
    split_by_labels,
)
from harness.data.source.columns.layout import Layout, check_watched, layout_of
from harness.data.source.columns.row_format import (
    FORMATS,
    LISTS,
    FormattedRow,
    RowFormat,
    detect_format,
    shown,
    with_header_hint,
)
from harness.data.source.facts import IGNORE, FileFacts, ReadSettings
from harness.data.source.files import BadRow, Row, TextRow, read_file
from harness.data.source.parts import FileHead, Part
from harness.data.source.shards import source_files
from harness.data.source.validation import validate
from harness.data.source.whole import refuse_other_class_labels
from harness.types import Example, SourceKind

__all__ = ["FORMATS", "FormattedRow", "RowFormat", "SourceReader", "detect_format", "read_formatted_rows"]

FormattedRows = Iterator[tuple[int, FormattedRow | BadRow]]
_MAY_BE_MISSING_AT_FIRST = frozenset((IGNORE, "negative", "prompt", "pos_scores", "neg_scores", "title", "label"))
_COLUMN_SETS_KEPT = 1000  # rows with ever other columns must not fill the memory


def read_formatted_rows(
    path: str, split: str, kind: SourceKind, settings: ReadSettings | None = None
) -> Iterator[tuple[int, FormattedRow | BadRow]]:
    """Stream (line or row number, row) of a source. A file's first row that fits a format sets its format.

    See `read_rows` for `path`, `split`, and the errors raised. A query that no text is a positive of gives a BadRow.

    Raises:
        ValueError: also for a column whose name is near one that is read.
    """
    reader = SourceReader(path, split, kind, settings or ReadSettings())
    for file in reader.files:
        yield from reader.rows(file, None)
    reader.check_all_mapped()


@dataclass(slots=True)
class _Columns:
    """How rows with one set of columns are read, and how many of them there were."""

    layout: Layout
    is_complete: bool  # whether all required columns are there
    has_peer_settings: bool
    rows: int = 0


@dataclass(slots=True)
class _FileState:
    path: str
    facts: FileFacts | None
    row_format: RowFormat | None = None
    foreign: ForeignFormat | None = None
    # By the columns in the file, and by those after conversion, of which a row may lack some (prompt, label).
    columns: dict[tuple[tuple[str, ...], tuple[str, ...]], _Columns] = field(default_factory=dict)
    pairs: LabelledPairs | None = None  # of a file with one label per row
    has_other_rows: bool = False  # rows without a label


class SourceReader:
    """Reads the files of one source, each by its own columns."""

    def __init__(self, path: str | tuple[str, ...], split: str, kind: SourceKind, settings: ReadSettings) -> None:
        self.files = source_files(path, split)
        refuse_other_class_labels(self.files)
        self._split, self._kind, self._settings = split, kind, settings
        self._documents: CorpusTexts | None = None
        self.seen: set[str] = set()  # columns of the files
        mapped = {ours: (name,) if isinstance(name, str) else name for ours, name in settings.columns.items()}
        self._ignored = frozenset(mapped.get(IGNORE, ()))
        self._extra_negatives = mapped.get("negative", ())
        self._ours_of_name = {names[0]: ours for ours, names in mapped.items() if ours not in (IGNORE, "negative")}
        self._known = {name for row_format in FORMATS if row_format.kind == kind for name in row_format.names}
        self._known |= {"label", "score"} if kind in ("retrieval", "sts") else set()
        self._known |= {"prompt"} if kind != "corpus" else set()

    def head(self, part: Part) -> FileHead | None:
        """What a file's first part decides for the others; None if they need the whole file, or the corpus."""
        state = _FileState(part.path, None)
        try:
            for line, row in part.rows() if self._settings.corpus is None else ():
                if not isinstance(row, BadRow):
                    self._formatted(state, line, row)
                if state.pairs is not None:
                    break
                if state.row_format is not None and (state.has_other_rows or self._kind != "retrieval"):
                    return FileHead(state.row_format, state.foreign)
        except ValueError:  # a mistake before it, if there is one, comes first: the reading of all rows finds it
            pass
        finally:
            if state.pairs is not None:
                state.pairs.close()
        return None

    def rows(
        self, file: str, facts: FileFacts | None, part: Part | None = None, head: FileHead | None = None
    ) -> FormattedRows:
        """Stream (line or row number, row) of one file. facts: gets what was found.

        Without facts, a query that no text is a positive of gives a BadRow; with them it is counted there. part: the
        rows to take, with the `head` of their file; None: all rows.
        """
        state = _FileState(file, facts)
        if head is not None:
            state.row_format, state.foreign, state.has_other_rows = head.row_format, head.foreign, True
        source = read_file(file, self._split, self._settings.config_name) if part is None else part.rows()
        try:
            for line, row in source:
                formatted = row if isinstance(row, BadRow) else self._formatted(state, line, row)
                if formatted is not None:
                    yield line, formatted
            if state.pairs is not None:
                yield from self._joined(state, state.pairs)
        finally:
            if state.pairs is not None:
                state.pairs.close()
        _count_columns(state)

    def check_all_mapped(self) -> None:
        """Check, after the last file, that every column named by the recipe's `columns` is in the files.

        Raises:
            ValueError: one is not.
        """
        for name in (*self._ours_of_name, *self._extra_negatives, *sorted(self._ignored)):
            if name not in self.seen:
                raise ValueError(self._not_there(name, self.files[0], self.seen))

    def _not_there(self, name: str, file: str, columns: set[str]) -> str:
        ours = self._ours_of_name.get(name, "negative" if name in self._extra_negatives else IGNORE)
        return (
            f"tasks.columns.{ours}: got {name!r}, expected a column of {file}, which has {shown(columns)}; "
            "correct or remove the key"
        )

    def _formatted(self, state: _FileState, line: int, row: Row) -> FormattedRow | BadRow | None:
        """The row with its format; None if it gives no row, or gives it later."""
        original = tuple(row)
        if state.row_format is None and state.foreign is None:
            state.foreign = foreign_format(set(row) - self._ignored, self._kind)
        if state.foreign is not None:
            converted = self._converted(state, row)
            if isinstance(converted, BadRow):
                return converted
            row = converted
        columns = state.columns.get((original, tuple(row))) or self._new_columns(state, line, original, row)
        if isinstance(columns, BadRow):
            return columns
        columns.rows += 1
        layout = columns.layout
        if layout.watched and columns.is_complete:
            check_watched(f"{state.path}:{line}", row, layout)
        if columns.has_peer_settings:
            check_flag_embedding(f"{state.path}:{line}", {n: v for n, v in row.items() if n not in self._ignored})
        if isinstance(row, TextRow):
            typed = typed_row(row, layout.row_format, layout.label)
            if isinstance(typed, BadRow):
                return typed
            row = typed
        if self._kind == "retrieval" and columns.is_complete:
            return self._labelled(state, line, row, layout)
        return FormattedRow(row, layout.row_format)

    def _converted(self, state: _FileState, row: Row) -> Row | BadRow:
        assert state.foreign is not None
        if self._documents is None and self._settings.corpus is not None:
            self._documents = CorpusTexts(self._settings.corpus, self._split)
        missing = [name for name in state.foreign.columns[: state.foreign.required] if name not in row]
        if missing:
            return BadRow(missing[0], "no such field", f"the fields {', '.join(state.foreign.columns)}")
        return convert(state.foreign, row, self._kind, self._documents)

    def _new_columns(self, state: _FileState, line: int, original: tuple[str, ...], row: Row) -> _Columns | BadRow:
        """How rows with these columns are read. The first row that fits a format sets the format of the file."""
        names = self._our_names(state, original, row)
        if state.row_format is None:
            detected = detect_format(names, self._kind)
            if isinstance(detected, BadRow):
                for name, ours in self._ours_of_name.items():
                    if name not in row and ours not in _MAY_BE_MISSING_AT_FIRST:
                        raise ValueError(self._not_there(name, f"{state.path}:{line}", set(original)))
                return with_header_hint(detected, row)
            state.row_format = detected
        is_complete = all(name in names for name in state.row_format.required)
        with_missing = {**{name: name for name in state.row_format.required}, **names}
        extra = [name for name in self._extra_negatives if name in row]
        layout = layout_of(with_missing, extra, state.row_format, self._known)
        is_flag_embedding = state.row_format == LISTS and any(name in names for name in FLAG_EMBEDDING_SETTINGS)
        if len(state.columns) >= _COLUMN_SETS_KEPT:
            _count_columns(state)
        self.seen.update(original)
        found = state.columns[original, tuple(row)] = _Columns(layout, is_complete, is_flag_embedding)
        return found

    def _our_names(self, state: _FileState, original: tuple[str, ...], row: Row) -> dict[str, str]:
        """Our name of each column of a row to the file's name."""
        names: dict[str, str] = {}
        for name in row:
            ours = self._ours_of_name.get(name, name)
            if name in self._ignored:
                continue
            if ours in names or (ours == name and name in self._ours_of_name.values() and self._holds(row, name)):
                raise ValueError(
                    f"tasks.columns.{ours}: got a mapping to {ours}, but {state.path} has a column {ours}, too, "
                    f"expected one of them; add ignore: [{ours}], or remove the key"
                )
            names[ours] = name
        return names

    def _holds(self, row: Row, ours: str) -> bool:
        """Whether the row has a column that the recipe maps to this name of ours."""
        return any(name in row for name, mapped in self._ours_of_name.items() if mapped == ours)

    def _labelled(self, state: _FileState, line: int, row: Row, layout: Layout) -> FormattedRow | BadRow | None:
        """A row of queries and texts; those with a label of their own are kept until the end of the file."""
        value = None if layout.label is None else row.get(layout.label)
        if layout.label is not None and isinstance(value, list):
            split = split_by_labels(row, layout.row_format, layout.label)
            return self._without_positive(state) if split is None else split
        if state.pairs is None and layout.label is None:
            state.has_other_rows = True
            return FormattedRow(row, layout.row_format)
        field_name = layout.label or "label"
        judgement = is_positive(value)
        if judgement is None:
            return bad_label(field_name, value)
        if state.has_other_rows:
            return BadRow(field_name, "a label, after rows without one", "a label in every row or in none")
        example = validate(line, row, layout.row_format)
        if not isinstance(example, Example):
            return example
        state.pairs = state.pairs or LabelledPairs()
        state.pairs.add(example, judgement)
        return None

    def _joined(self, state: _FileState, pairs: LabelledPairs) -> FormattedRows:
        for line, row in pairs.rows():
            positives = set(row["pos"])
            negatives = [text for text in row["neg"] if text not in positives]
            if len(negatives) < len(row["neg"]) and state.facts is not None:
                state.facts.note(CONFLICT)
            if positives:
                yield line, FormattedRow({**row, "neg": negatives}, LISTS)
            elif (problem := self._without_positive(state)) is not None:
                yield line, problem

    def _without_positive(self, state: _FileState) -> BadRow | None:
        if state.facts is None:
            return BadRow("label", "0 for every text of this query", "a text with label 1")
        state.facts.skip(ONLY_NEGATIVES)
        return None


def _count_columns(state: _FileState) -> None:
    """Add the columns of the rows so far to the facts of the file."""
    counts: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    foreign = set(state.foreign.columns) if state.foreign else set()
    for (original, _), found in state.columns.items():
        unused = set(original) - foreign - set(found.layout.used)
        for name in original:
            counts[name in unused][name] += found.rows
    state.columns.clear()
    if state.facts is None:
        return
    for counted, target in zip(counts, (state.facts.used, state.facts.unused), strict=True):
        for name, rows in counted.items():
            target[name] = target.get(name, 0) + rows
