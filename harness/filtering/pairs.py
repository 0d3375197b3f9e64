"""Stage 1: reads the source, applies the rules, and writes the pairs as memory-mapped arrays.

Only texts that pass the rules are written to disk. A row that cannot be used counts as one pair, so that every row
appears in the report.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from harness.data.source.facts import ReadSettings
from harness.data.source.files import BadRow
from harness.data.source.formats import read_formatted_rows
from harness.data.source.shards import is_pattern, source_files
from harness.data.table.identity import TextKeys, text_hash
from harness.data.table.npy import ArrayFile, open_array
from harness.filtering.config import RuleConfig
from harness.filtering.duplicates import pair_hash
from harness.filtering.junk_rules import broken_rule, normalised
from harness.filtering.reasons import Reason
from harness.filtering.rows import RowPairs, pairs_of
from harness.types import ROLES

if TYPE_CHECKING:
    from datasets import Dataset

CHUNK_TEXTS, CHUNK_CHARACTERS = 16_384, 8_000_000
_TEXTS = "texts.arrow"
_SCHEMA = pa.schema(
    [("text", pa.large_string()), ("prompt", pa.large_string())]
)  # prompt: the row's own, with its query
_DTYPES = {
    "row_P": "int64",
    "position_P": "int32",
    "reason_P": "uint8",
    "hash_P": "uint64",
    "query_P": "int64",
    "positive_P": "int64",
    "text_hash_G": "uint64",
    "token_hash_G": "uint64",
}
# The token hashes of texts, uint64. Called with texts, the rows' own prompts, and roles as positions in ROLES.
HashTokens = Callable[[list[str], list[str | None], np.ndarray], np.ndarray]
_QUERY, _DOCUMENT = ROLES.index("query"), ROLES.index("document")


@dataclass(frozen=True)
class PairTable:
    """All pairs of a source, sorted by row."""

    row_P: np.ndarray  # int64, row of the source from 0, ascending
    position_P: np.ndarray  # int32, position of the positive in its row
    reason_P: np.ndarray  # uint8, the `Reason` that the rules gave
    hash_P: np.ndarray  # uint64, hash of the normalised pair; 0 if a rule dropped the pair
    query_P: np.ndarray  # int64, text id; -1 if a rule dropped the pair
    positive_P: np.ndarray  # int64, text id; -1 if a rule dropped the pair
    text_hash_G: np.ndarray  # uint64, hash of the raw text
    token_hash_G: np.ndarray  # uint64, hash of the token ids after prompt and truncation
    texts: Dataset

    def keys(self, text_E: np.ndarray) -> TextKeys:
        """What tells these texts apart; see `harness/data/table/identity.py`."""
        return TextKeys(self.text_hash_G[text_E], self.token_hash_G[text_E])

    def read_texts(self, text_E: np.ndarray) -> list[tuple[str, str | None]]:
        """(text, the row's own prompt) of each text id, in the order of `text_E`."""
        if not len(text_E):
            return []
        unique, inverse = np.unique(text_E, return_inverse=True)
        columns = self.texts[unique.tolist()]
        return [(columns["text"][i], columns["prompt"][i]) for i in inverse]

    @classmethod
    def open(cls, folder: Path) -> PairTable:
        """Open the table that `write_pairs` wrote into a folder."""
        from datasets import Dataset

        arrays = {name: open_array(folder / f"{name}.npy") for name in _DTYPES}
        return cls(texts=Dataset.from_file(str(folder / _TEXTS)), **arrays)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """The results of the stages so far, per pair."""

    reason_P: np.ndarray  # uint8, `Reason`: why the pair was dropped, or KEPT
    score_P: np.ndarray  # float32, the model's cosine; NaN for pairs that were dropped before stage 4

    @classmethod
    def of_rules(cls, table: PairTable) -> Verdicts:
        """The verdicts after stage 1: the rules that `write_pairs` applied, and pairs whose two texts encode alike."""
        verdicts = cls(np.array(table.reason_P), np.full(len(table.reason_P), np.nan, dtype=np.float32))
        pair_E = verdicts.kept()
        is_one_E = table.keys(table.query_P[pair_E]).is_one_with(table.keys(table.positive_P[pair_E]))
        verdicts.reason_P[pair_E[is_one_E]] = Reason.POSITIVE_IS_QUERY
        return verdicts

    def kept(self) -> np.ndarray:
        """Numbers of the pairs that no stage has dropped, int64 [E]."""
        return np.flatnonzero(self.reason_P == Reason.KEPT)


def write_pairs(
    folder: Path,
    path: str,
    split: str,
    settings: ReadSettings,
    rules: RuleConfig,
    hash_tokens: HashTokens,
    progress: Callable[[int], None],
) -> None:
    """Read the source once, apply the rules, and write the files that `PairTable.open` opens.

    hash_tokens: see `HashTokens`. progress: called with the number of texts kept since the last call.

    Raises:
        ValueError: the source cannot be read, or has no usable row.
    """
    first_problem: str | None = None
    is_usable = False
    with _Writer(folder, hash_tokens, progress) as writer:
        for row, (line, raw) in enumerate(read_formatted_rows(path, split, "retrieval", settings)):
            pairs = pairs_of(line, raw)
            if isinstance(pairs, BadRow):
                first_problem = first_problem or pairs.message(path, line)
                writer.add_dropped(row, [Reason.UNUSABLE])
                continue
            is_usable = True
            reason = broken_rule(pairs.query, rules)
            if reason is not None:
                writer.add_dropped(row, [reason] * len(pairs.positives))
            else:
                writer.add(row, pairs, [_judge(pairs.query, positive, rules) for positive in pairs.positives])
    if not is_usable:
        problem = "it has no rows" if first_problem is None else f"the first problem: {first_problem}"
        raise ValueError(f"{path}: got no usable row, expected at least one; {problem}")


def _judge(query: str, positive: str, rules: RuleConfig) -> Reason:
    reason = broken_rule(positive, rules)
    if reason is None and normalised(query) == normalised(positive):
        return Reason.POSITIVE_IS_QUERY
    return reason or Reason.KEPT


class _Writer:
    """Appends to the files of a `PairTable`, one chunk at a time."""

    def __init__(self, folder: Path, hash_tokens: HashTokens, progress: Callable[[int], None]) -> None:
        folder.mkdir(parents=True)
        self._hash_tokens, self._progress = hash_tokens, progress
        self._sink = pa.OSFile(str(folder / _TEXTS), "wb")
        self._stream = pa.ipc.new_stream(self._sink, _SCHEMA)
        self._files = {name: ArrayFile(folder / f"{name}.npy", dtype) for name, dtype in _DTYPES.items()}
        self._num_texts = 0
        self._clear()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._stream.close()
        self._sink.close()
        for file in self._files.values():
            file.close()

    def add_dropped(self, row: int, reasons: list[Reason]) -> None:
        """Add the pairs of a row whose texts are all dropped. reasons: one per pair."""
        for position, reason in enumerate(reasons):
            self._add_pair(row, position, reason, 0, -1, -1)

    def add(self, row: int, pairs: RowPairs, reasons: list[Reason]) -> None:
        """Add the pairs of a row whose query passed the rules. reasons: the result of the rules for each positive."""
        query_id = -1
        for position, (positive, reason) in enumerate(zip(pairs.positives, reasons, strict=True)):
            if reason is not Reason.KEPT:
                self._add_pair(row, position, reason, 0, -1, -1)
                continue
            query_id = self._add_text(pairs.query, _QUERY, pairs.prompt) if query_id < 0 else query_id
            positive_id = self._add_text(positive, _DOCUMENT)
            self._add_pair(row, position, reason, pair_hash(pairs.query, positive), query_id, positive_id)

    def _add_pair(self, *values: int) -> None:
        self._pairs.append(values)
        if max(len(self._texts), len(self._pairs)) >= CHUNK_TEXTS or self._characters >= CHUNK_CHARACTERS:
            self._flush()

    def _add_text(self, text: str, role: int, prompt: str | None = None) -> int:
        self._texts.append(text)
        self._roles.append(role)
        self._prompts.append(prompt)
        self._characters += len(text)
        self._num_texts += 1
        return self._num_texts - 1

    def _clear(self) -> None:
        self._texts: list[str] = []
        self._prompts: list[str | None] = []
        self._roles: list[int] = []
        self._pairs: list[tuple[int, ...]] = []  # in the order of the first names of _DTYPES
        self._characters = 0

    def _flush(self) -> None:
        columns = [pa.array(self._texts, _SCHEMA.types[0]), pa.array(self._prompts, _SCHEMA.types[1])]
        self._stream.write_batch(pa.record_batch(columns, schema=_SCHEMA))
        self._files["text_hash_G"].append(np.array([text_hash(text) for text in self._texts], dtype=np.uint64))
        token_hash_N = self._hash_tokens(self._texts, self._prompts, np.array(self._roles, dtype=np.int64))
        self._files["token_hash_G"].append(token_hash_N)
        for name, values in zip(_DTYPES, zip(*self._pairs, strict=True), strict=False):
            self._files[name].append(np.array(values, dtype=_DTYPES[name]))
        self._progress(len(self._texts))
        self._clear()


def source_hash(path: str) -> str:
    """SHA-256 of a file, of the names and bytes of several files, or of the name of a hub data set."""
    place = Path(path)
    if place.is_file():
        return _file_hash(place)
    digest = hashlib.sha256(b"" if place.is_dir() else path.encode())
    if is_pattern(path):
        for name in source_files(path, "train"):
            digest.update(f"{name}\n{_file_hash(Path(name))}\n".encode())
    for file in _files_of(place):
        digest.update(f"{file.relative_to(place)}\n{_file_hash(file)}\n".encode())
    return digest.hexdigest()


def _files_of(folder: Path) -> Iterator[Path]:
    """The files of a folder, sorted by name, without the files that `datasets` itself caches there."""
    yield from sorted(file for file in folder.rglob("*") if file.is_file() and not file.name.startswith("cache-"))


def _file_hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
