"""Reads some rows of a source into arrays: the work that processes share. Loads neither torch nor transformers.

A piece depends on its rows alone, not on who reads it or what was read before, so that the table and its hash are the
same for any number of processes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from harness.data.source.containers.rows import BadRow
from harness.data.source.facts import FileFacts, ReadSettings
from harness.data.source.formats import FormattedRows, SourceReader
from harness.data.source.parts import FileHead, Part
from harness.data.source.validation import validate
from harness.data.table.identity import text_hash
from harness.prompts.placeholders import what_stays_in_place
from harness.types import ROLES, Example, SourceKind

CHUNK_TEXTS = 16_384
CHUNK_CHARACTERS = 8_000_000
MAX_MESSAGES = 20
TEXTS_FILE = "texts.arrow"
SCHEMA = pa.schema([("text", pa.large_string()), ("prompt", pa.large_string())])
BAD_ROW = "bad rows (data.on_bad_row: skip)"
QUERY, DOCUMENT = ROLES.index("query"), ROLES.index("document")
_DTYPES = {
    "row_length_R": "int32",
    "num_positives_R": "int32",
    "line_R": "int64",
    "text_hash_G": "uint64",
    "role_G": "uint8",
}
_DTYPES_OF_KIND = {
    "retrieval": {"document_score_G": "float32"},
    "sts": {"score_R": "float32"},
    "classification": {"label_R": "int32"},
    "corpus": {},
}


# What programs write where a value is missing: `astype(str)` of pandas, Python's str, SQL.
_MISSING_TEXTS = frozenset(map(text_hash, ("nan", "NaN", "None", "null", "NULL", "<NA>", "undefined")))


class BadRowError(ValueError):
    """A row that cannot be used; the message is one line `PATH:LINE: FIELD: got ..., expected ...`."""


def dtypes_of(kind: SourceKind) -> dict[str, str]:
    """The arrays of a piece and their types."""
    return _DTYPES | _DTYPES_OF_KIND[kind]


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive examples of a file as arrays. label_R: positions in `labels`, in the order of their appearance."""

    texts: pa.RecordBatch
    arrays: dict[str, np.ndarray]
    labels: tuple[str, ...]
    hashed: bytes  # what the content hash is made of; empty if it is not wanted


@dataclass(slots=True)
class Findings:
    """What was found in the rows of a file: its facts, and the first messages about bad rows."""

    facts: FileFacts
    bad_rows: int = 0
    messages: list[str] = field(default_factory=list)
    columns: set[str] = field(default_factory=set)

    def add(self, later: Findings) -> None:
        """Add what was found in later rows."""
        self.bad_rows += later.bad_rows
        self.messages += later.messages[: MAX_MESSAGES - len(self.messages)]
        self.columns |= later.columns
        self.facts.add(later.facts)


@dataclass(frozen=True, slots=True)
class Request:
    """How the rows of a source are read. skip: leave out bad rows. hashed: whether the content hash is wanted."""

    kind: SourceKind
    split: str
    settings: ReadSettings
    skip: bool
    hashed: bool


@dataclass(frozen=True, slots=True)
class PartRequest:
    """One part of a file to read. excluded: by line, rows that an earlier pass found bad."""

    request: Request
    part: Part
    head: FileHead
    excluded: Mapping[int, BadRow]

    def read(self) -> tuple[list[Piece], Findings]:
        """The examples of the part, and what was found.

        Raises:
            BadRowError: a row is bad and is not to be left out. ValueError: a row that stops the reading.
        """
        request, pieces = self.request, list[Piece]()
        reader = SourceReader(self.part.path, request.split, request.kind, request.settings)
        findings = Findings(FileFacts(self.part.path))
        rows = reader.rows(self.part.path, findings.facts, self.part, self.head)
        read_examples(request, rows, findings, self.excluded, pieces.append)
        findings.columns = reader.seen
        return pieces, findings


def read_examples(
    request: Request,
    rows: FormattedRows,
    findings: Findings,
    excluded: Mapping[int, BadRow],
    give: Callable[[Piece], object],
) -> None:
    """Check rows of one file and give them on in pieces. Memory does not grow with the rows.

    Raises:
        BadRowError: a row is bad and is not to be left out.
    """
    gathered = _Gathered(request)
    for line, result in _examples(rows):
        example_or_problem = excluded.get(line, result) if excluded else result
        if isinstance(example_or_problem, Example):
            gathered.add(example_or_problem, findings.facts)
            if gathered.is_full:
                give(gathered.piece())
                gathered = _Gathered(request)
            continue
        message = example_or_problem.message(findings.facts.path, line)
        if not request.skip:
            raise BadRowError(message)
        findings.bad_rows += 1
        findings.facts.skip(BAD_ROW)
        if len(findings.messages) < MAX_MESSAGES:
            findings.messages.append(message)
    if gathered.texts:
        give(gathered.piece())


def _examples(rows: FormattedRows) -> Iterator[tuple[int, Example | BadRow]]:
    """(line, Example or BadRow) of every row."""
    for line, row in rows:
        yield line, row if isinstance(row, BadRow) else validate(line, row.columns, row.row_format)


class _Gathered:
    """Examples that will make the next piece."""

    def __init__(self, request: Request) -> None:
        self._kind, self._is_hashed = request.kind, request.hashed
        self.texts: list[str] = []
        self._prompts: list[str | None] = []
        self._characters = 0
        self._labels: dict[str, int] = {}
        self._values: dict[str, list[Any]] = {name: [] for name in dtypes_of(request.kind)}
        self._hashed: list[str] = []

    @property
    def is_full(self) -> bool:
        return len(self.texts) >= CHUNK_TEXTS or self._characters >= CHUNK_CHARACTERS

    def add(self, example: Example, facts: FileFacts) -> None:
        values, texts = self._values, example.texts
        hashes = [text_hash(text) for text in texts]
        facts.rows += 1
        _note_what_is_no_text(facts, texts, hashes)
        self.texts += texts
        self._prompts.append(example.prompt)
        self._characters += sum(map(len, texts))
        values["text_hash_G"] += hashes
        values["row_length_R"].append(len(texts))
        values["num_positives_R"].append(example.num_positives)
        values["line_R"].append(example.line)
        if self._kind == "retrieval":
            _note(facts, example, hashes)
            self._prompts += [None] * (len(texts) - 1)
            scores = example.document_scores or (float("nan"),) * (len(texts) - 1)
            values["document_score_G"] += (float("nan"), *scores)
            values["role_G"] += [QUERY] + [DOCUMENT] * (len(texts) - 1)
        else:
            self._prompts += [None] * (len(texts) - 1)
            values["role_G"] += [DOCUMENT if self._kind == "corpus" else QUERY] * len(texts)
        if self._kind == "sts":
            values["score_R"].append(example.score)
            facts.highest = max(facts.highest, abs(example.score or 0.0))
        if example.label is not None:
            values["label_R"].append(self._labels.setdefault(example.label, len(self._labels)))
        if self._is_hashed:
            others = (example.num_positives, example.score, example.label, example.prompt, example.document_scores)
            self._hashed.append(json.dumps([texts, others]))

    def piece(self) -> Piece:
        columns = [pa.array(self.texts, SCHEMA.types[0]), pa.array(self._prompts, SCHEMA.types[1])]
        dtypes = dtypes_of(self._kind)
        arrays = {name: np.array(values, dtype=dtypes[name]) for name, values in self._values.items()}
        hashed = "".join(self._hashed).encode()
        return Piece(pa.record_batch(columns, schema=SCHEMA), arrays, tuple(self._labels), hashed)


def _note_what_is_no_text(facts: FileFacts, texts: Sequence[str], hashes: list[int]) -> None:
    """Note a row that holds nothing but numbers, or what programs write for a missing value."""
    if all(text.isdecimal() for text in texts):
        facts.note("rows hold numbers only; if these are ids of texts in other files, join them first")
    if not _MISSING_TEXTS.isdisjoint(hashes):
        facts.note("rows have a text such as nan, None or null, which stands for a missing one in many files")


def _note(facts: FileFacts, example: Example, hashes: list[int]) -> None:
    """Note the scores and negatives of a row, and texts that it lists twice. All its texts are kept."""
    facts.scored += example.document_scores is not None
    if example.prompt and (place := what_stays_in_place(example.prompt)):
        facts.note(f"rows have {place} in their own prompt, where it stands before the query as it is")
    num_positives = example.num_positives
    number = str(len(hashes) - 1 - num_positives)
    facts.negatives[number] = facts.negatives.get(number, 0) + 1
    positives, negatives = hashes[1 : 1 + num_positives], hashes[1 + num_positives :]
    if num_positives > 1 and len(set(positives)) < num_positives:
        facts.note("rows list a positive twice")
    if negatives and not set(positives).isdisjoint(negatives):
        facts.note("rows have a negative that is one of their positives, which is never used as a negative")
