"""Writes the rows of a source as the files of a `TaskData`, in one streaming pass over the rows and one over the texts.

The files are `texts.arrow` (one row per text, in the order of `Example.texts`) and one .npy file per array of
`TaskData`. Memory does not grow with the source.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from harness.data.source.facts import FileFacts, ReadSettings
from harness.data.source.files import BadRow
from harness.data.source.formats import SourceReader
from harness.data.source.validation import validate
from harness.data.table.lookup import write_label_lookup, write_query_lookup, write_query_token_lookup
from harness.data.table.npy import ArrayFile, open_array
from harness.data.table.source_facts import SourceFacts, check_usable, rows_of_single_labels
from harness.data.table.tokenisation import Tokeniser, text_hash, token_hash
from harness.prompts import Prompts
from harness.types import ROLES, Example, PromptedText, SourceKind

CHUNK_TEXTS = 16_384
CHUNK_CHARACTERS = 8_000_000
TOKENISE_TEXTS = 1024
MAX_MESSAGES = 20
TEXTS_FILE = "texts.arrow"
SCHEMA = pa.schema([("text", pa.large_string()), ("prompt", pa.large_string())])
BAD_ROW = "bad rows (data.on_bad_row: skip)"
Progress = Callable[[int], None]
Source = str | tuple[str, ...]
QUERY, DOCUMENT = ROLES.index("query"), ROLES.index("document")


class BadRowError(ValueError):
    """A row that cannot be used; the message is one line `PATH:LINE: FIELD: got ..., expected ...`."""


def write_rows(
    folder: Path,
    path: Source,
    kind: SourceKind,
    split: str,
    skip: bool,
    progress: Progress | None = None,
    settings: ReadSettings | None = None,
) -> SourceFacts:
    """Validate a source and write its texts, arrays and lookups into `folder`.

    path: one file, folder, pattern or hub name, or several. skip: leave out and count bad rows instead of raising an
    error at the first one. progress: called with the number of texts written since the last call.

    Raises:
        BadRowError: a row is bad and `skip` is false. ValueError: the source cannot be read, has no usable row, or has
            only one label.
    """

    def write(excluded: dict[tuple[str, int], BadRow]) -> SourceFacts:
        reader = SourceReader(path, split, kind, settings or ReadSettings())
        return _write_examples(folder, reader, kind, skip, excluded, progress)

    facts, name = write({}), path if isinstance(path, str) else path[0]
    if kind == "classification" and facts.num_rows:
        rows_without_positive = rows_of_single_labels(folder, facts)
        if rows_without_positive:  # known only after the whole pass, so a second pass skips or refuses these rows
            facts = write(rows_without_positive)
    check_usable(name, kind, facts)
    if kind == "classification":
        write_label_lookup(folder, len(facts.label_names))
    write_query_lookup(folder)
    return facts


def _write_examples(
    folder: Path,
    reader: SourceReader,
    kind: SourceKind,
    skip: bool,
    excluded: dict[tuple[str, int], BadRow],
    progress: Progress | None,
) -> SourceFacts:
    """Write the source in one pass. excluded: by file and line, rows that an earlier pass found bad."""
    facts = SourceFacts()
    with _RowWriter(folder, kind, progress) as writer:
        for file in reader.files:
            of_file = FileFacts(file)
            facts.files.append(of_file)
            for line, result in _examples(reader, of_file):
                example_or_problem = excluded.get((file, line), result) if excluded else result
                if isinstance(example_or_problem, Example):
                    writer.add(example_or_problem, of_file)
                    continue
                message = example_or_problem.message(file, line)
                if not skip:
                    raise BadRowError(message)
                facts.bad_rows += 1
                of_file.skip(BAD_ROW)
                if len(facts.messages) < MAX_MESSAGES:
                    facts.messages.append(message)
    reader.check_all_mapped()
    facts.num_rows, facts.num_texts = writer.num_rows, writer.num_texts
    facts.label_names, facts.content_hash = list(writer.label_ids), writer.digest.hexdigest()
    return facts


def _examples(reader: SourceReader, facts: FileFacts) -> Iterator[tuple[int, Example | BadRow]]:
    """(line, Example or BadRow) of every row of a file."""
    for line, row in reader.rows(facts.path, facts):
        yield line, row if isinstance(row, BadRow) else validate(line, row.columns, row.row_format)


class _RowWriter:
    """Appends examples to texts.arrow and to the array files, one chunk at a time."""

    def __init__(self, folder: Path, kind: SourceKind, progress: Progress | None) -> None:
        self.kind, self.progress = kind, progress
        self.num_rows = self.num_texts = 0
        self.label_ids: dict[str, int] = {}
        self.digest = hashlib.sha256()
        self._sink = pa.OSFile(str(folder / TEXTS_FILE), "wb")
        self._stream = pa.ipc.new_stream(self._sink, SCHEMA)
        dtypes = {"row_start_R1": "int64", "num_positives_R": "int32", "line_R": "int64", "query_hash_R": "uint64"}
        dtypes |= {"text_hash_G": "uint64", "role_G": "uint8"}
        dtypes |= {
            "retrieval": {"document_score_G": "float32"},
            "sts": {"score_R": "float32"},
            "classification": {"label_R": "int32"},
            "corpus": {},
        }[kind]
        self._files = {name: ArrayFile(folder / f"{name}.npy", dtype) for name, dtype in dtypes.items()}
        self._files["row_start_R1"].append([0])
        self._clear()

    def __enter__(self) -> _RowWriter:
        return self

    def __exit__(self, error_type: object, *_: object) -> None:
        if error_type is None:
            self._flush()
        self._stream.close()
        self._sink.close()
        for file in self._files.values():
            file.close()

    def _clear(self) -> None:
        self._texts: list[str] = []
        self._prompts: list[str | None] = []
        self._characters = 0
        self._chunk: dict[str, list[Any]] = {name: [] for name in self._files}

    def add(self, example: Example, facts: FileFacts) -> None:
        chunk, texts = self._chunk, example.texts
        hashes = [text_hash(text) for text in texts]
        facts.rows += 1
        if self.kind == "retrieval":
            _note_repeated(facts, hashes, example.num_positives)
            facts.scored += example.document_scores is not None
        self._texts += texts
        self._prompts += [example.prompt] + [None] * (len(texts) - 1)
        self._characters += sum(map(len, texts))
        self.num_rows += 1
        self.num_texts += len(texts)
        chunk["text_hash_G"] += hashes
        chunk["query_hash_R"].append(hashes[0])
        chunk["row_start_R1"].append(self.num_texts)
        chunk["num_positives_R"].append(example.num_positives)
        chunk["line_R"].append(example.line)
        if self.kind == "retrieval":
            scores = example.document_scores or (float("nan"),) * (len(texts) - 1)
            chunk["document_score_G"] += (float("nan"), *scores)
            chunk["role_G"] += [QUERY] + [DOCUMENT] * (len(texts) - 1)
        else:
            chunk["role_G"] += [DOCUMENT if self.kind == "corpus" else QUERY] * len(texts)
        if self.kind == "sts":
            chunk["score_R"].append(example.score)
        if example.label is not None:
            chunk["label_R"].append(self.label_ids.setdefault(example.label, len(self.label_ids)))
        values = (example.num_positives, example.score, example.label, example.prompt, example.document_scores)
        self.digest.update(json.dumps([texts, values]).encode())
        if len(self._texts) >= CHUNK_TEXTS or self._characters >= CHUNK_CHARACTERS:
            self._flush()

    def _flush(self) -> None:
        if not self._texts:
            return
        columns = [pa.array(self._texts, SCHEMA.types[0]), pa.array(self._prompts, SCHEMA.types[1])]
        self._stream.write_batch(pa.record_batch(columns, schema=SCHEMA))
        for name, values in self._chunk.items():
            self._files[name].append(values)
        if self.progress is not None:
            self.progress(len(self._texts))
        self._clear()


def _note_repeated(facts: FileFacts, hashes: list[int], num_positives: int) -> None:
    """Note a row that lists a text twice, or as a positive and as a negative. All its texts are kept."""
    positives, negatives = hashes[1 : 1 + num_positives], hashes[1 + num_positives :]
    if num_positives > 1 and len(set(positives)) < num_positives:
        facts.note("rows list a positive twice")
    if negatives and not set(positives).isdisjoint(negatives):
        facts.note("rows have a negative that is one of their positives, which is never used as a negative")


def write_tokens(
    folder: Path,
    rows_folder: Path,
    tokeniser: Tokeniser,
    prompts: Prompts,
    max_lengths: tuple[int, int],
    progress: Progress | None = None,
) -> None:
    """Tokenise prompt + text, cut to the maximum length of the text's role; write lengths, hashes and their lookup.

    max_lengths: in tokens, in the order of ROLES. progress: called with the number of texts tokenised since the last
    call.
    """
    role_G = open_array(rows_folder / "role_G.npy")
    start = 0
    with (
        ArrayFile(folder / "length_G.npy", "int32") as lengths,
        ArrayFile(folder / "token_hash_G.npy", "uint64") as hashes,
        pa.OSFile(str(rows_folder / TEXTS_FILE), "rb") as source,
    ):
        for record_batch in pa.ipc.open_stream(source):
            for offset in range(0, record_batch.num_rows, TOKENISE_TEXTS):
                batch = record_batch.slice(offset, TOKENISE_TEXTS)
                role_N = np.asarray(role_G[start : start + batch.num_rows])
                columns = batch["text"].to_pylist(), batch["prompt"].to_pylist()
                length_N, hash_N = lengths_and_hashes(*columns, role_N, tokeniser, prompts, max_lengths)
                lengths.append(length_N)
                hashes.append(hash_N)
                start += batch.num_rows
                if progress is not None:
                    progress(batch.num_rows)
    write_query_token_lookup(folder, open_array(rows_folder / "row_start_R1.npy"))


def lengths_and_hashes(
    texts: list[str],
    own_prompts: list[str | None],
    role_N: np.ndarray,
    tokeniser: Tokeniser,
    prompts: Prompts,
    max_lengths: tuple[int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Number of tokens and token hash of each text, as `write_tokens` says. own_prompts: the rows' own."""
    length_N, hash_N = np.empty(len(texts), dtype=np.int32), np.empty(len(texts), dtype=np.uint64)
    for code, role in enumerate(ROLES):
        chosen = np.flatnonzero(role_N == code)
        strings = [PromptedText(prompts.before(role, own_prompts[i]), texts[i]) for i in chosen]
        ids = tokeniser.encode(strings, max_lengths[code])
        length_N[chosen] = [len(row) for row in ids]
        hash_N[chosen] = np.array([token_hash(row) for row in ids], dtype=np.uint64)
    return length_N, hash_N
