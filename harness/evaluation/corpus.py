"""The documents of a retrieval data set on disk, memory-mapped, so that no rank holds their texts in memory.

CACHE/evaluation/KEY/  documents.arrow (id, text, without_title)  row_C.npy  same_text_C.npy  start_U1.npy  unused.json

KEY is a hash of the corpus file, so a changed file is read anew. The files may be deleted at any time but during a run.
Shapes: C documents, numbered by descending id; U distinct texts, numbered in the order of their first document.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from harness import rank0
from harness.data.source.locate import cache_root
from harness.data.table.build_once import build_once, check_built, damaged
from harness.data.table.identity import text_hash
from harness.data.table.npy import open_array
from harness.evaluation.counts import note_unused
from harness.evaluation.rows import MISSING, bad_field, read_rows, text_field
from harness.search.unique_texts import unique_texts
from harness.settings import checked_json as json

if TYPE_CHECKING:
    from datasets import Dataset

_VERSION = 2  # of the files
_SCHEMA = pa.schema([("id", pa.large_string()), ("text", pa.large_string()), ("without_title", pa.int64())])
_ROWS = 16_384  # written at a time
_ARRAYS = ("row_C", "same_text_C", "start_U1")


@dataclass(frozen=True, slots=True)
class IdentifiedText:
    """A row of a corpus or of the queries: its id, the text to encode, and the text alone.

    A document's text is its title and text, a query's its text and instruction, joined with a space as mteb joins them,
    so that scores can be compared with published ones. alone: without the title or the instruction.
    """

    line: int
    id: str
    text: str
    alone: str


def identified_texts(file: Path, unused: Counter[str], beside: str) -> Iterator[IdentifiedText]:
    """The rows of a file of `_id` (or `id`), `text` and `beside` (title or instruction).

    unused: gets the columns that are not used.

    Raises:
        ValueError: a row is bad; also after the last row, if there was none.
    """
    line = 0
    for line, row in read_rows(file):
        id_field = "_id" if "_id" in row else "id" if "id" in row else "_id"
        name = row.get(id_field, MISSING)
        if not isinstance(name, str | int) or isinstance(name, bool) or name == "":
            raise bad_field(file, line, id_field, name, "a text or a number")
        text = text_field(file, line, row, "text", may_be_empty=True).strip()
        more = None if row.get(beside) is None else text_field(file, line, row, beside, may_be_empty=True)
        joined = f"{more} {text}" if beside == "title" else f"{text} {more}"
        note_unused(unused, row, (id_field, "text", beside))
        yield IdentifiedText(line, str(name), joined.strip() if more else text, text)
    if not line:
        raise ValueError(f"{file}: got no rows, expected at least one")


@dataclass(frozen=True)
class Corpus:
    """The documents of a retrieval data set; see the top of this file."""

    rows: Dataset  # in the order of the file
    row_C: np.ndarray  # int64, row of each document in `rows`
    same_text_C: np.ndarray  # int64, the documents of text 0, then those of text 1, ..., each in ascending order
    start_U1: np.ndarray  # int64, where those of each text begin, and the number of documents
    unused: dict[str, int]  # rows that have a value in a column that is not used

    def __len__(self) -> int:
        return len(self.row_C)

    @property
    def num_texts(self) -> int:
        """Number of distinct texts."""
        return len(self.start_U1) - 1

    def ids(self, document_N: np.ndarray) -> list[str]:
        """The ids of some documents."""
        return self._take("id", document_N)

    def distinct_texts(self, text_N: np.ndarray) -> list[str]:
        """Some of the distinct texts, by their numbers."""
        return self._take("text", self.same_text_C[self.start_U1[text_N]])

    def numbers(self, ids: Collection[str]) -> dict[str, int]:
        """The number of each document with one of these ids; ids that the corpus lacks are left out."""
        wanted = pa.array(list(ids), pa.large_string())
        place_C = pc.index_in(self.rows.data["id"], value_set=wanted).combine_chunks()
        row_N = np.flatnonzero(place_C.is_valid().to_numpy(zero_copy_only=False))
        document_of_row = np.empty(len(self), dtype=np.int64)
        document_of_row[self.row_C] = np.arange(len(self))
        documents = document_of_row[row_N]
        return dict(zip(self.ids(documents), documents.tolist(), strict=True))

    def texts_of(self, document: int) -> tuple[str, str]:
        """(the text to encode, the text without its title) of a document."""
        (text,), (length,) = (self._take(name, np.array([document])) for name in ("text", "without_title"))
        return text, text[len(text) - length :]

    def _take(self, column: str, document_N: np.ndarray) -> list[Any]:
        # Not by pyarrow's own `take`, which copies the whole column first if it has several chunks.
        return list(self.rows.select_columns(column)[self.row_C[document_N].tolist()][column])


def open_corpus(file: Path, cache: str | None = None) -> Corpus:
    """Open the corpus in a file. Every rank must call this.

    On each machine one process reads the file, unless an earlier start has read it; machines may have caches of their
    own. cache: the folder for derived files; None: the user's cache folder.

    Raises:
        ValueError: a row is bad, an id occurs twice, there are no rows, or the cache cannot be written or is damaged.
    """
    folder = cache_root(cache) / "evaluation" / rank0.by_main(partial(_key, file))
    rank0.by_each(lambda: build_once(folder, partial(_build, file)))
    check_built(folder)
    return _opened(folder)


def _key(file: Path) -> str:
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256")
    digest.update(f"{_VERSION} {''.join(file.suffixes)}".encode())
    return digest.hexdigest()[:32]


def _opened(folder: Path) -> Corpus:
    from datasets import Dataset

    try:
        row_C, same_text_C, start_U1 = (open_array(folder / f"{name}.npy") for name in _ARRAYS)
        rows = Dataset.from_file(str(folder / "documents.arrow"))
        unused = json.loads((folder / "unused.json").read_text(encoding="utf-8"))
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(damaged(folder, type(error).__name__)) from error
    if not len(rows) == len(row_C) == len(same_text_C) == start_U1[-1]:
        raise ValueError(damaged(folder, "arrays of other lengths than the documents"))
    return Corpus(rows, row_C, same_text_C, start_U1, unused)


def _build(file: Path, folder: Path) -> None:
    unused: Counter[str] = Counter()
    hashes, lines = [], []
    place = str(folder / "documents.arrow")
    with pa.OSFile(place, "wb") as sink, pa.ipc.new_stream(sink, _SCHEMA) as stream:
        for chunk in _chunks(identified_texts(file, unused, "title")):
            stream.write_batch(_batch(file, chunk))
            hashes.append(np.array([text_hash(row.text) for row in chunk], dtype=np.uint64))
            lines.append(np.array([row.line for row in chunk], dtype=np.int64))
    with pa.memory_map(place) as source:
        ids = pa.ipc.open_stream(source).read_all()["id"].combine_chunks()
    row_C = pc.array_sort_indices(ids, order="descending").to_numpy().astype(np.int64)  # by UTF-8, as trec_eval
    _check_no_id_twice(file, ids, row_C, np.concatenate(lines))
    first_U, text_C = unique_texts(np.concatenate(hashes)[row_C])
    start_U1 = np.concatenate([[0], np.cumsum(np.bincount(text_C, minlength=len(first_U)))])
    for name, array in zip(_ARRAYS, (row_C, np.argsort(text_C, kind="stable"), start_U1), strict=True):
        np.save(folder / f"{name}.npy", array)
    (folder / "unused.json").write_text(json.dumps(dict(unused)), encoding="utf-8")


def _chunks(rows: Iterator[IdentifiedText]) -> Iterator[list[IdentifiedText]]:
    chunk: list[IdentifiedText] = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == _ROWS:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _batch(file: Path, chunk: list[IdentifiedText]) -> pa.RecordBatch:
    for row in chunk:
        for field, value in (("_id", row.id), ("text", row.text)):
            try:
                value.encode()
            except UnicodeEncodeError as error:
                raise bad_field(file, row.line, field, value, "a text without lone surrogates") from error
    columns = ([row.id for row in chunk], [row.text for row in chunk], [len(row.alone) for row in chunk])
    return pa.record_batch([pa.array(*both) for both in zip(columns, _SCHEMA.types, strict=True)], schema=_SCHEMA)


def _check_no_id_twice(file: Path, ids: pa.Array, row_C: np.ndarray, line_C: np.ndarray) -> None:
    sorted_ids = ids.take(pa.array(row_C))
    repeated = np.flatnonzero(pc.equal(sorted_ids[1:], sorted_ids[:-1]).to_numpy(zero_copy_only=False))
    if len(repeated):
        row = int(row_C[repeated + 1].min())  # of equal ids, rows ascend
        raise bad_field(file, int(line_C[row]), "_id", ids[row].as_py(), "an id that did not occur before")
