"""The texts of a corpus by the ids of its documents, for rows that name documents instead of holding their texts."""

from __future__ import annotations

import tempfile
from array import array
from typing import Any

import numpy as np
import xxhash

from harness.data.source.files import BadRow, read_rows

_ID_NAMES = ("docid", "_id", "id", "document_id")
_TEXT_NAMES = ("text", "document_text")


class CorpusTexts:
    """Texts by document id. They lie in a temporary file; memory holds 24 bytes for each document."""

    def __init__(self, path: str, split: str) -> None:
        """Read the corpus at `path`.

        Raises:
            ValueError: a row has no id or no text, or two rows have the same id and different texts.
        """
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 (closed with this object)
        hashes, offsets, lengths = array("Q"), array("q"), array("i")
        for line, row in read_rows(path, split):
            if isinstance(row, BadRow):
                raise ValueError(row.message(path, line))
            document_id = next((row[name] for name in _ID_NAMES if row.get(name) is not None), None)
            text = next((row[name] for name in _TEXT_NAMES if row.get(name) is not None), None)
            if document_id is None or not isinstance(text, str):
                field, names = ("id", _ID_NAMES) if document_id is None else ("text", _TEXT_NAMES)
                raise ValueError(f"{path}:{line}: {field}: got no such field, expected {' or '.join(names)}")
            encoded = text.encode("utf-8", "surrogatepass")
            hashes.append(_hash(document_id))
            offsets.append(self._file.tell())
            lengths.append(len(encoded))
            self._file.write(encoded)
        hash_N = np.frombuffer(hashes, dtype=np.uint64) if hashes else np.empty(0, np.uint64)
        order_N = np.argsort(hash_N, kind="stable")
        self._hash_N = hash_N[order_N]
        self._offset_N, self._length_N = (np.array(values, dtype=np.int64)[order_N] for values in (offsets, lengths))
        self._check_ids(path)

    def text(self, document_id: Any) -> str | None:
        """The text of a document; None if the corpus has no such id. Ids are compared as text: 7 is "7"."""
        wanted = np.uint64(_hash(document_id))
        position = int(np.searchsorted(self._hash_N, wanted))
        if position == len(self._hash_N) or self._hash_N[position] != wanted:
            return None
        return self._read(position)

    def _read(self, position: int) -> str:
        self._file.seek(int(self._offset_N[position]))
        return self._file.read(int(self._length_N[position])).decode("utf-8", "surrogatepass")

    def _check_ids(self, path: str) -> None:
        for position in np.flatnonzero(self._hash_N[1:] == self._hash_N[:-1]).tolist():
            if self._read(position) != self._read(position + 1):
                raise ValueError(f"{path}: got an id twice with different texts, expected each id once")


def _hash(document_id: Any) -> int:
    return xxhash.xxh3_64_intdigest(str(document_id).encode("utf-8", "surrogatepass"))
