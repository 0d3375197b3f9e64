"""Writes the rows of a source as the files of a `TaskData`, in one streaming pass.

The files are `texts.arrow` (one row per text, in the order of `Example.texts`) and one .npy file per array of
`TaskData`. Memory does not grow with the source. Parts of JSON lines and parquet files are read by all cores; see
`workers.py`.
"""

from __future__ import annotations

import bisect
import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa

from harness.data.source.containers.rows import BadRow
from harness.data.source.facts import FileFacts, ReadSettings
from harness.data.source.formats import SourceReader
from harness.data.source.parts import parts_of
from harness.data.table.lookup import write_label_lookup, write_query_lookup
from harness.data.table.npy import ArrayFile
from harness.data.table.rows import pieces
from harness.data.table.rows.pieces import (
    SCHEMA,
    TEXTS_FILE,
    BadRowError,
    Findings,
    PartRequest,
    Piece,
    Request,
    dtypes_of,
    read_examples,
)
from harness.data.table.rows.source_facts import SourceFacts, check_usable, rows_of_single_labels
from harness.data.table.rows.workers import read_parts
from harness.types import SourceKind

_LARGE_BYTES = 8_000_000
Progress = Callable[[int], None]
Source = str | tuple[str, ...]
Excluded = dict[str, dict[int, BadRow]]  # by file and line, ascending: rows that an earlier pass found bad


def write_rows(
    folder: Path,
    path: Source,
    kind: SourceKind,
    split: str,
    skip: bool,
    progress: Progress | None = None,
    settings: ReadSettings | None = None,
    num_workers: int | None = None,
    hashed: bool = True,
) -> SourceFacts:
    """Validate a source and write its texts, arrays and lookups into `folder`.

    path: one file, folder, pattern or hub name, or several. skip: leave out and count bad rows instead of raising an
    error at the first one. progress: called with the number of texts written since the last call. num_workers: see
    `read_parts`. hashed: whether to compute the content hash.

    Raises:
        BadRowError: a row is bad and `skip` is false. ValueError: the source cannot be read, has no usable row, or has
            only one label.
    """
    request = Request(kind, split, settings or ReadSettings(), skip, hashed)

    def write(excluded: Excluded) -> SourceFacts:
        reader = SourceReader(path, split, kind, request.settings)
        with _RowWriter(folder, kind, progress) as writer:
            _read_files(reader, request, excluded, writer, num_workers)
        reader.check_all_mapped()
        return writer.facts

    facts, name = write({}), path if isinstance(path, str) else path[0]
    if kind == "classification" and facts.num_rows:
        excluded = _rows_without_positive(folder, facts, skip)
        if excluded:  # known only after the whole pass, so a second pass leaves these rows out
            facts = write(excluded)
    check_usable(name, kind, facts)
    if kind == "classification":
        write_label_lookup(folder, len(facts.label_names))
    write_query_lookup(folder)
    return facts


def _rows_without_positive(folder: Path, facts: SourceFacts, skip: bool) -> Excluded:
    """The rows whose label no other row has.

    Raises:
        BadRowError: there is one, and `skip` is false.
    """
    excluded: Excluded = defaultdict(dict)
    for (file, line), problem in rows_of_single_labels(folder, facts).items():
        if not skip:
            raise BadRowError(problem.message(file, line))
        excluded[file][line] = problem
    return excluded


def _read_files(
    reader: SourceReader, request: Request, excluded: Excluded, writer: _RowWriter, num_workers: int | None
) -> None:
    """Read the files one after another: those that can be cut into parts in several processes, the others in this."""
    waiting = list(reversed(reader.files))
    while waiting:
        for of_part, findings in read_parts(_requests(waiting, reader, request, excluded), num_workers):
            for piece in of_part:
                writer.append(piece)
            reader.seen |= findings.columns
            writer.note(findings)
        if waiting:
            findings = Findings(FileFacts(waiting.pop()))
            writer.note(findings)
            rows = reader.rows(findings.facts.path, findings.facts)
            read_examples(request, rows, findings, excluded.get(findings.facts.path, {}), writer.append)


def _requests(waiting: list[str], reader: SourceReader, request: Request, excluded: Excluded) -> Iterator[PartRequest]:
    """The parts of the last files of `waiting`, which are taken from it, up to one that must be read as a whole."""
    while waiting:
        parts = parts_of(waiting[-1]) if request.settings.config_name is None else None
        first = None if parts is None else next(parts, None)
        head = None if first is None else reader.head(first)
        if parts is None or first is None or head is None:
            return
        of_file = excluded.get(waiting.pop(), {})
        lines = list(of_file)
        for part in chain((first,), parts):
            within = lines[bisect.bisect_left(lines, part.first) : bisect.bisect_left(lines, part.stop)]
            yield PartRequest(request, part, head, {line: of_file[line] for line in within})


class _RowWriter:
    """Appends pieces to texts.arrow and to the array files, and adds up what was found."""

    def __init__(self, folder: Path, kind: SourceKind, progress: Progress | None) -> None:
        self._progress = progress
        self._found: list[Findings] = []
        self._num_rows = self._num_texts = 0
        self._labels: dict[str, int] = {}
        self._digest = hashlib.sha256()
        self._sink = pa.OSFile(str(folder / TEXTS_FILE), "wb")
        self._stream = pa.ipc.new_stream(self._sink, SCHEMA)
        self._texts: list[pa.RecordBatch] = []  # not yet written: a piece may be small
        dtypes = {"row_start_R1": "int64", "query_hash_R": "uint64"} | dtypes_of(kind)
        del dtypes["row_length_R"]
        self._files = {name: ArrayFile(folder / f"{name}.npy", dtype) for name, dtype in dtypes.items()}
        self._files["row_start_R1"].append([0])

    def __enter__(self) -> _RowWriter:
        return self

    def __exit__(self, error_type: object, *_: object) -> None:
        if error_type is None:
            self._write_texts()
        self._stream.close()
        self._sink.close()
        for file in self._files.values():
            file.close()

    def append(self, piece: Piece) -> None:
        """Write the examples that follow."""
        arrays = dict(piece.arrays)
        start_N1 = np.concatenate([[0], np.cumsum(arrays.pop("row_length_R"), dtype=np.int64)])
        if "label_R" in arrays:
            number_C = [self._labels.setdefault(name, len(self._labels)) for name in piece.labels]
            arrays["label_R"] = np.array(number_C, dtype=np.int32)[arrays["label_R"]]
        arrays["query_hash_R"] = arrays["text_hash_G"][start_N1[:-1]]
        arrays["row_start_R1"] = self._num_texts + start_N1[1:]
        for name, values in arrays.items():
            self._files[name].append(values)
        self._digest.update(piece.hashed)
        self._num_rows += len(start_N1) - 1
        self._num_texts += piece.texts.num_rows
        self._texts.append(piece.texts)
        if sum(batch.num_rows for batch in self._texts) >= pieces.CHUNK_TEXTS or piece.texts.nbytes >= _LARGE_BYTES:
            self._write_texts()
        if self._progress is not None:
            self._progress(piece.texts.num_rows)

    def _write_texts(self) -> None:
        if self._texts:
            self._stream.write_table(pa.Table.from_batches(self._texts).combine_chunks())
        self._texts = []

    def note(self, findings: Findings) -> None:
        """Take down what was found in a file, or in its next part."""
        if self._found and self._found[-1].facts.path == findings.facts.path:
            self._found[-1].add(findings)
        else:
            self._found.append(findings)

    @property
    def facts(self) -> SourceFacts:
        """What is known about the source."""
        messages = [message for found in self._found for message in found.messages]
        return SourceFacts(
            self._num_rows,
            self._num_texts,
            sum(found.bad_rows for found in self._found),
            messages[: pieces.MAX_MESSAGES],
            [found.facts for found in self._found],
            list(self._labels),
            self._digest.hexdigest(),
        )
