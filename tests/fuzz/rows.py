"""Data files of every format: rows with odd values under the columns that formats know, then damaged bytes."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from harness.data.source.columns.row_format import FORMATS
from harness.data.source.config import check_columns
from harness.data.source.facts import FileFacts, ReadSettings
from harness.data.source.files import BadRow
from harness.data.source.formats import SourceReader, read_formatted_rows
from harness.data.source.parts import parts_of
from harness.data.source.validation import validate
from harness.data.table.rows.writer import write_rows
from tests.fuzz.judgement import Find, judge, problem_of_message
from tests.fuzz.target import Target
from tests.fuzz.values import as_json, damaged, seeds, trees

KINDS = ("retrieval", "sts", "classification", "corpus")
_PACKED: dict[str, Callable[[bytes], bytes]] = {
    "": bytes, ".gz": lambda data: gzip.compress(data, 1), ".bz2": bz2.compress,
    ".xz": lambda data: lzma.compress(data, preset=0), ".zst": lambda data: pa.compress(data, codec="zstd",
    asbytes=True),
}  # fmt: skip
_FOREIGN = (
    "positive_passages", "negative_passages", "query_text", "positive_document_ids", "negative_document_ids",
    "messages",
    "positive_messages", "negative_messages", "system", "type", "batch_size", "train_group_size", "images",
    "negative_1", "negative_²", "negative_99999999999", "Query", "relevance", "id", "labels", "",
)  # fmt: skip
_COLUMNS = tuple(dict.fromkeys([*(name for known in FORMATS for name in known.names), *_FOREIGN]))
_FITTING: dict[str, list[tuple[str, ...]]] = {
    kind: [tuple(known.names) for known in FORMATS if known.kind == kind] for kind in KINDS
}
_FITTING["retrieval"] += [
    ("query", "positive_passages", "negative_passages"),
    ("query_text", "positive_document_ids"),
    ("messages", "positive_messages", "label"),
]
_FITTING_VALUES: dict[str, Any] = {
    "pos": ["an answer"], "neg": ["another text", "a third"], "pos_scores": [0.5], "neg_scores": [0.1, 0.2],
    "score": 0.5, "label": 1,
    "positive_passages": [{"title": "t", "text": "an answer"}], "negative_passages": [], "positive_document_ids": ["1"],
    "messages": [{"role": "user", "content": "a question"}], "positive_messages": [[{"role": "user",
    "content": "an answer"}]],
}  # fmt: skip
_value = st.one_of(st.sampled_from(("a", "b", 0, 1, 0.5, ["a"], ["a", "b"], [])), trees)
# The columns of a row are those of a format of its kind, with a fitting value but for these: (which column, value).
_changed = st.lists(st.tuples(st.one_of(st.integers(0, 6), st.sampled_from(_COLUMNS)), _value), max_size=2)
_rows = st.lists(st.tuples(_changed, st.integers(0, 15)), max_size=5)
_name = st.sampled_from((*_COLUMNS, "other"))
_settings = st.one_of(
    st.just(()),
    st.just(()),
    st.lists(st.tuples(st.sampled_from(("query", "negative", "score", "ignore")), _name), max_size=2).map(tuple),
)
_FORMS = ("jsonl", "json list", "json", "ndjson", "csv", "tsv", "parquet")


def _text_of(rows: list[dict[str, Any]], form: str, seed: int) -> bytes:
    chance = random.Random(seed)
    if form in ("csv", "tsv"):
        names = list(dict.fromkeys(name for row in rows for name in row))
        stream = io.StringIO(newline="")
        writer = csv.writer(stream, delimiter="," if form == "csv" else "\t", quoting=chance.randrange(2))
        writer.writerow(names)
        for row in rows:
            values = (row.get(name, "") for name in names)
            writer.writerow([value if isinstance(value, str) else as_json(value, 0) for value in values])
        return stream.getvalue().encode("utf-8", "surrogatepass")
    lines = [as_json(row, seed + number) for number, row in enumerate(rows)]
    text = "[" + ",\n".join(lines) + "]" if form == "json list" else "\n".join(lines) + "\n"
    return text.encode("utf-8", "surrogatepass")


def _parquet(rows: list[dict[str, Any]]) -> bytes:
    """Each column in the type that fits its values, or as text."""
    columns: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row.get(name) for row in rows]
        try:
            columns[name] = pa.array(values)
        except (pa.ArrowException, UnicodeError, OverflowError):
            columns[name] = pa.array([str(value).encode("utf-8", "surrogatepass") for value in values]).cast(
                pa.binary()
            )
            if len(values) % 2:  # texts that are not UTF-8
                columns[name] = columns[name].view(pa.string())
    stream = io.BytesIO()
    try:
        pq.write_table(pa.table(columns), stream)
    except (pa.ArrowException, UnicodeError):
        pq.write_table(pa.table({"query": ["a", "b"], "positive": [["c"], []]}), stream)
    return stream.getvalue()


def _row(drawn: Any, names: tuple[str, ...], number: int) -> dict[str, Any]:
    """A row of these columns, of which the last may be missing."""
    changed, left_out = drawn
    row = {name: _FITTING_VALUES.get(name, f"text {number} of {name}") for name in names[: len(names) - left_out // 8]}
    for column, value in changed:
        row[names[column % len(names)] if isinstance(column, int) else column] = value
    return row


def _write(drawn: Any, folder: Path) -> Path:
    (drawn_rows, number), form, packed, seed, damage, kind = drawn[:6]
    names = _FITTING[kind][number % len(_FITTING[kind])]
    rows = [_row(row, names, n) for n, row in enumerate(drawn_rows)]
    content = _parquet(rows) if form == "parquet" else damaged(_text_of(rows, form, seed), damage)
    packed = "" if form == "parquet" else packed
    content = damaged(_PACKED[packed](content), damage >> 1) if packed or form == "parquet" else content
    path = folder / f"data.{form.split()[0]}{packed}"
    path.write_bytes(content)
    return path


def _read(path: Path, kind: Any, columns: dict[str, Any]) -> None:
    check_columns("tasks.t.columns", kind, columns, None)
    settings = ReadSettings(columns)
    for line, row in read_formatted_rows(str(path), "train", kind, settings):
        _check(row if isinstance(row, BadRow) else validate(line, row.columns, row.row_format), path, line)
    facts = FileFacts(str(path))
    reader = SourceReader(str(path), "train", kind, settings)
    for _ in reader.rows(str(path), facts):
        pass
    parts = parts_of(str(path)) or ()
    for part in parts:  # as several processes read it
        head = reader.head(part)
        if head is not None:
            for _ in reader.rows(str(path), facts, part, head):
                pass


def _check(row: object, path: Path, line: int) -> None:
    if isinstance(row, BadRow):
        problem = problem_of_message(row.message(path, line))
        assert problem is None, f"{problem}: {row}"


def _attempt(drawn: Any, folder: Path) -> Find | str:
    path, (kind, columns) = _write(drawn, folder), drawn[5:]
    found = judge(lambda: _read(path, kind, dict(columns)))
    path.unlink()
    return found


def _attempt_table(drawn: Any, folder: Path) -> Find | str:
    path, (kind, columns) = _write(drawn, folder), drawn[5:]

    def write() -> None:
        check_columns("tasks.t.columns", kind, dict(columns), None)
        write_rows(folder, str(path), kind, "train", bool(drawn[3] % 4), None, ReadSettings(dict(columns)), 1)

    found = judge(write)
    path.unlink()
    return found


def _inputs(forms: tuple[str, ...]) -> st.SearchStrategy[Any]:
    packed = st.sampled_from((*[""] * 15, *_PACKED))  # packing takes longer than reading
    return st.tuples(
        st.tuples(_rows, st.integers(0, 50)),
        st.sampled_from(forms),
        packed,
        seeds,
        seeds,
        st.sampled_from(KINDS),
        _settings,
    )


TARGETS = (
    Target("rows: json", _inputs(("jsonl", "json list", "json", "ndjson")), _attempt, 4.0),
    Target("rows: csv and tsv", _inputs(("csv", "tsv")), _attempt, 3.0),
    Target("rows: parquet", _inputs(("parquet",)), _attempt, 1.0),
    Target("rows: tables", _inputs(_FORMS), _attempt_table, 0.5),
)
