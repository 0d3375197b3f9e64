"""Recognises which columns of a data file hold queries, positives, labels and so on.

To add a column format, add a line to the table `FORMATS`.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass, replace

from harness.data.source.containers.rows import BadRow, Row, TextRow
from harness.types import SourceKind


@dataclass(frozen=True, slots=True)
class RowFormat:
    """The name of the column for each kind of content; all other columns of a row are not used."""

    kind: SourceKind
    texts: tuple[str, ...]  # columns with one text: the query, the two texts of a pair, or the text to classify
    positive: str | None = None
    negative: str | None = None  # the column may be missing; other names of it are read as well, see layout.py
    bare_text: bool = True  # whether positive and negative may be one text instead of a list of texts
    positive_scores: str | None = None
    negative_scores: str | None = None
    prompt: str | None = None
    target: str | None = None  # the score or the label
    title: str | None = None  # put before the text, separated by a space
    negatives: tuple[str, ...] | None = None  # the columns of a row with negatives; None: not looked at yet

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


def _pairs(query: str, positive: str, negative: str) -> RowFormat:
    return RowFormat("retrieval", (query,), positive, negative, prompt=None if query == "prompt" else "prompt")


LISTS = RowFormat(  # FlagEmbedding's
    "retrieval",
    ("query",),
    positive="pos",
    negative="neg",
    bare_text=False,
    positive_scores="pos_scores",
    negative_scores="neg_scores",
    prompt="prompt",
)
FORMATS = (  # the first format that fits is used
    LISTS,
    _pairs("query", "positive", "negative"),
    _pairs("anchor", "positive", "negative"),
    _pairs("query", "response", "rejected"),
    _pairs("prompt", "response", "rejected"),
    _pairs("prompt", "chosen", "rejected"),
    RowFormat("retrieval", ("sentence1",), positive="sentence2", target="label"),
    RowFormat("retrieval", ("text1",), positive="text2", target="label"),
    RowFormat("sts", ("text1", "text2"), target="score"),
    RowFormat("sts", ("sentence1", "sentence2"), target="score"),
    RowFormat("sts", ("sentence_A", "sentence_B"), target="score"),
    RowFormat("sts", ("text1", "text2"), target="label"),
    RowFormat("sts", ("sentence1", "sentence2"), target="label"),
    RowFormat("classification", ("text",), target="label"),
    RowFormat("corpus", ("text",), title="title"),
)


@dataclass(frozen=True, slots=True)
class FormattedRow:
    """A row as read from the file, and the format that says what its columns hold."""

    columns: Row
    row_format: RowFormat


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
    hint = _mapping_hint(columns, formats)
    if not other_kinds and max(num_shared) > 0 and num_shared.count(max(num_shared)) == 1:
        likely_format = formats[num_shared.index(max(num_shared))]
        missing = next(name for name in likely_format.required if name not in columns)
        return BadRow(missing, "no such field", f"the fields {likely_format}{hint}")
    if other_kinds:
        hint = f"; these columns fit kind: {' or '.join(sorted(other_kinds))}"
    return BadRow("columns", shown(columns), f"{' or '.join(map(str, formats))} for kind {kind}{hint}")


_OTHER_SEPARATORS = {"\t": "a tab", ";": "a semicolon", "，": "a full-width comma", ",": "a comma"}


def with_header_hint(problem: BadRow, row: Row) -> BadRow:
    """The problem, with what a csv or tsv file must have, if the row comes from one."""
    if not isinstance(row, TextRow):
        return problem
    ids = "; ids name texts of other files: join these first" if all(name.isdecimal() for name in row) else ""
    only = next(iter(row)) if len(row) == 1 else ""
    sign = next((name for sign, name in _OTHER_SEPARATORS.items() if sign in only), "")
    separator = f" with a comma between them, and not {sign}; a name ending in .tsv: with a tab" if sign else ""
    return replace(problem, expected=f"{problem.expected}; the first line must name the columns{separator}{ids}")


def shown(columns: Collection[str]) -> str:
    """The names of columns for a message: sorted, in one line of at most 200 characters."""
    return repr(sorted(map(str, columns)))[1:-1][:200] or "none"


# Names in files of the field whose meaning is plain to a reader, but which stand for other things in other files.
_FOREIGN_NAMES = {
    "query": ("question", "sentence", "claim", "text1", "sentence1", "premise"),
    "positive": ("answer", "passage", "document", "doc", "context", "text2", "sentence2"),
}
_NATURAL_LANGUAGE_INFERENCE = {"premise", "hypothesis"}


def _mapping_hint(columns: Collection[str], formats: list[RowFormat]) -> str:
    """How to map the columns, if some of their names are near ours or well known."""
    if set(columns) >= _NATURAL_LANGUAGE_INFERENCE:
        return (
            "; rows of premise, hypothesis and label: write those of entailment as anchor and positive, and the "
            "contradiction of the same premise as negative"
        )
    lower = {str(name).lower(): str(name) for name in columns}
    mapping: dict[str, str] = {}
    for name in dict.fromkeys(name for row_format in formats for name in row_format.required):
        near = difflib.get_close_matches(name.lower(), sorted(lower), 1, 0.8) if name not in columns else []
        near = near or [known for known in _FOREIGN_NAMES.get(name, ()) if known in lower and name not in columns][:1]
        if near and lower[near[0]] not in (*mapping.values(), *(n for f in formats for n in f.required)):
            mapping[name] = lower[near[0]]
    shown_mapping = ", ".join(f"{ours}: {repr(name)[1:-1][:40]}" for ours, name in list(mapping.items())[:3])
    if not mapping:
        return ""
    return (
        f"; to read other names, map them in the recipe's task: columns: {{{shown_mapping}}} (mine, filter: --columns)"
    )
