"""Opens a source of rows as `TaskData`: memory-mapped arrays in the cache folder, built at the first start.

The cache holds `rows/KEY/` with texts and lookups. This KEY is a hash of the source's path and content, and of how it
is read. Inside it lies `tokens-KEY/` with lengths and token hashes. This KEY is a hash of tokenizer, prompts and
maximum lengths. A later start opens these folders, after a check of their content, and not the source. For a hub data
set the first KEY depends on its name, not on its revision: delete the folder to read a newer revision.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xxhash

from harness.data.config import TaskConfig
from harness.data.data_config import DataConfig
from harness.data.ragged import expand_ranges
from harness.data.source.facts import FileFacts, ReadSettings
from harness.data.source.locate import cache_root
from harness.data.source.shards import refuse_unused_split
from harness.data.table.build_once import build_once, check_built, damaged
from harness.data.table.identity import TextKeys
from harness.data.table.npy import open_array
from harness.data.table.rows.pieces import TEXTS_FILE, BadRowError
from harness.data.table.rows.writer import Progress, Source, write_rows
from harness.data.table.source_state import SourceState, Stamp, stamps_of, states_of
from harness.data.table.tokenisation import Tokeniser
from harness.data.table.tokens.flat import FlatTokens
from harness.data.table.tokens.write import write_tokens
from harness.prompts import Prompts
from harness.settings import checked_json as json
from harness.types import SourceKind

if TYPE_CHECKING:
    from datasets import Dataset

__all__ = ["BadRowError", "TableConfig", "TaskData", "check_scores", "open_table", "open_task"]

FORMAT_VERSION = 6
TOKENS_VERSION = 2  # of the files in tokens-KEY/
META_FILE = "meta.json"
CHUNK_ROWS = 1 << 20


@dataclass(frozen=True)
class TaskData:
    """The rows and texts of one source. The texts of row r have the ids [row_start_R1[r], row_start_R1[r + 1]).

    The first text of a row is its query. `num_positives_R[r]` positives follow, then the negatives in the order of the
    file.
    """

    name: str
    kind: SourceKind
    path: str
    num_rows: int
    num_texts: int
    content_hash: str  # SHA-256 of the file; of its rows for a folder, a hub data set, or with `columns`
    row_start_R1: np.ndarray  # int64
    num_positives_R: np.ndarray  # int32
    line_R: np.ndarray  # int64, line or row number in the source, from 1
    text_hash_G: np.ndarray  # uint64, hash of the raw text
    token_hash_G: np.ndarray  # uint64, hash of the token ids after prompt and truncation
    length_G: np.ndarray  # int32, tokens after prompt and truncation
    role_G: np.ndarray  # uint8, position in ROLES
    sorted_query_hash_R: np.ndarray  # uint64, text hashes of the rows' first texts, ascending
    sorted_query_row_R: np.ndarray  # int64, the row of each of these hashes
    sorted_query_token_hash_R: np.ndarray  # uint64, token hashes of the rows' first texts, ascending
    sorted_query_token_row_R: np.ndarray  # int64, the row of each of these hashes
    score_R: np.ndarray | None = None  # float32 (sts)
    label_R: np.ndarray | None = None  # int32, position in label_names (classification)
    label_order_R: np.ndarray | None = None  # int64, rows sorted by label, then by row
    label_start_C1: np.ndarray | None = None  # int64, label c holds [start[c], start[c + 1]) of label_order_R
    document_score_G: np.ndarray | None = None  # float32, pos_scores and neg_scores, NaN elsewhere (retrieval)
    token_E: np.ndarray | None = None  # uint16 or uint32, the token ids of all texts
    token_start_G1: np.ndarray | None = None  # int64, text g has the ids [start[g], start[g + 1]) of token_E
    prompt_tokens_G: np.ndarray | None = None  # int32, tokens that are not pooled; None: all are
    label_names: tuple[str, ...] = ()
    bad_rows: int = 0  # number of rows left out (data.on_bad_row: skip)
    bad_row_messages: tuple[str, ...] = ()  # what is wrong with the first of these rows
    files: tuple[FileFacts, ...] = ()  # what was read from each file, in the order of the rows
    texts: Dataset | None = None  # columns text, prompt; a row's own prompt is stored with its query

    def read_texts(self, text_ids: np.ndarray) -> list[tuple[str, str | None]]:
        """(text, the row's own prompt) of each id, in the order of `text_ids`; ids may repeat."""
        assert self.texts is not None, "this TaskData was made without texts"
        if len(text_ids) == 0:
            return []
        unique, inverse = np.unique(np.asarray(text_ids), return_inverse=True)
        columns = self.texts[unique.tolist()]
        return [(columns["text"][i], columns["prompt"][i]) for i in inverse]

    def read_tokens(self, text_ids: np.ndarray) -> FlatTokens:
        """The token ids of each text after prompt and truncation, in the order of `text_ids`; ids may repeat.

        Raises:
            ValueError: the ids are not those that were written: their hashes differ.
        """
        assert self.token_E is not None, "this TaskData was made without token ids"
        assert self.token_start_G1 is not None
        start_N, stop_N = self.token_start_G1[text_ids], self.token_start_G1[text_ids + 1]
        prompts = None if self.prompt_tokens_G is None else self.prompt_tokens_G[text_ids]
        is_whole = bool((stop_N - start_N == self.length_G[text_ids]).all()) and start_N.min(initial=0) >= 0
        if is_whole and stop_N.max(initial=0) <= len(self.token_E):
            _, place_E = expand_ranges(start_N, stop_N)
            tokens = FlatTokens(self.token_E[place_E].astype(np.int32), stop_N - start_N, prompts)
            if (tokens.hashes() == self.token_hash_G[text_ids]).all():
                return tokens
        folder = Path(str(getattr(self.token_E, "filename", ""))).parent
        raise ValueError(damaged(folder, "its token ids have other hashes"))

    def keys(self, text_ids: np.ndarray) -> TextKeys:
        """What tells the texts with these ids apart; see `harness/data/table/identity.py`."""
        return TextKeys(self.text_hash_G[text_ids], self.token_hash_G[text_ids])

    def location(self, text_id: int) -> str:
        """`PATH:LINE` of the row that the text belongs to."""
        row = int(np.searchsorted(self.row_start_R1, text_id, side="right")) - 1
        if len(self.files) < 2:
            return f"{self.path}:{self.line_R[row]}"
        end_of_file = np.cumsum([file.rows for file in self.files])
        return f"{self.files[int(np.searchsorted(end_of_file, row, side='right'))].path}:{self.line_R[row]}"


def open_task(
    task: TaskConfig,
    path: Source,
    data: DataConfig,
    tokeniser: Tokeniser,
    query_max_length: int,
    document_max_length: int,
    progress: Progress | None = None,
    corpus: str | None = None,
) -> TaskData:
    """Open the task's data at `path`; see `open_table`. corpus: where the task's `corpus` lies."""
    refuse_unused_split(path, task.split)
    lengths = query_max_length, document_max_length
    settings = ReadSettings(task.columns, task.config_name, corpus or task.corpus)
    table = TableConfig(task.name, task.kind, task.split, task.prompts.to_prompts(), lengths, settings)
    return open_table(table, path, data, tokeniser, progress)


def check_scores(task: TaskConfig, data: TaskData) -> None:
    """Check that every positive and negative has a ranker's score, if a loss of the task needs scores (distillation).

    Raises:
        ValueError: a text has no score; names the first one as `PATH:LINE: ...`.
    """
    if not task.distillation_losses:
        return
    assert data.document_score_G is not None
    for start in range(0, data.num_rows, CHUNK_ROWS):
        first_R1 = data.row_start_R1[start : start + CHUNK_ROWS + 1]
        missing_G = np.isnan(data.document_score_G[first_R1[0] : first_R1[-1]])
        missing_G[first_R1[:-1] - first_R1[0]] = False  # queries
        if missing_G.any():
            text = int(first_R1[0] + np.argmax(missing_G))
            row = int(np.searchsorted(data.row_start_R1, text, side="right")) - 1
            is_positive = text - data.row_start_R1[row] <= data.num_positives_R[row]
            raise ValueError(
                f"{data.location(text)}: {'pos_scores' if is_positive else 'neg_scores'}: got no score, expected one "
                f"per text: task {task.name} has loss {task.distillation_losses[0]}; add the scores, or set loss: "
                "info_nce"
            )


@dataclass(frozen=True, slots=True)
class TableConfig:
    """How a source is read and how its texts are tokenised. max_lengths: in tokens, in the order of ROLES."""

    name: str
    kind: SourceKind
    split: str
    prompts: Prompts
    max_lengths: tuple[int, int]
    settings: ReadSettings = field(default_factory=ReadSettings)


def open_table(
    table: TableConfig, path: Source, data: DataConfig, tokeniser: Tokeniser, progress: Progress | None = None
) -> TaskData:
    """Open the source at `path` (one or several). If it is not in the cache yet, read it into the cache first.

    Every rank must call it; of the processes of a host one reads, the others wait. `progress` is called with the number
    of texts finished since the last call; every text counts twice, when it is written and when it is tokenised.

    Raises:
        BadRowError: a row is bad and `on_bad_row` is `stop`. ValueError: the source or the cache cannot be used.
    """
    cache = cache_root(data.cache)
    stamps = stamps_of(path, table.split, table.settings.corpus)
    states = states_of(path, table.split, table.settings.corpus, cache)
    key = _digest(
        [FORMAT_VERSION, *map(asdict, states), table.kind, table.split, data.on_bad_row, table.settings.key()]
    )
    rows = cache / "rows" / key
    skip = data.on_bad_row == "skip"
    prompts, max_lengths = table.prompts, table.max_lengths
    tokens_key = _digest([FORMAT_VERSION, TOKENS_VERSION, tokeniser.fingerprint, prompts.for_pairs(), max_lengths])
    tokens = rows / f"tokens-{tokens_key}"
    build_once(rows, lambda folder: _build_rows(folder, table, path, (states, stamps), skip, progress))
    check_built(rows)
    build_once(tokens, lambda folder: write_tokens(folder, rows, tokeniser, prompts, max_lengths, progress))
    check_built(tokens)
    return _read(table, shown_path(path), rows, tokens)


def _build_rows(
    folder: Path,
    table: TableConfig,
    path: Source,
    version: tuple[list[SourceState], list[Stamp]],
    skip: bool,
    progress: Progress | None,
) -> None:
    """Write the rows of a source, and what is known about it, into `folder`. version: of the source."""
    states, stamps = version
    is_one_file = len(states) == 1 and states[0].is_file and not table.settings.columns  # with columns: of the rows
    facts = write_rows(folder, path, table.kind, table.split, skip, progress, table.settings, hashed=not is_one_file)
    sources = [asdict(state) for state in states]
    meta = {**asdict(facts), "sources": sources, "kind": table.kind, "split": table.split}
    if is_one_file:
        with open(states[0].path, "rb") as stream:
            meta["content_hash"] = hashlib.file_digest(stream, "sha256").hexdigest()
    if stamps_of(path, table.split, table.settings.corpus) != stamps:
        raise ValueError(
            f"{shown_path(path)}: got a source that changed while it was read, expected a finished one; start again"
        )
    (folder / META_FILE).write_text(json.dumps(meta))


def shown_path(path: Source) -> str:
    """The path of a source for messages; of several, the first one and their number."""
    return path if isinstance(path, str) else path[0] if len(path) == 1 else f"{path[0]} and {len(path) - 1} more"


def _digest(parts: list[Any]) -> str:
    return xxhash.xxh3_128_hexdigest(json.dumps(parts).encode())


def _read(table: TableConfig, path: str, rows: Path, tokens: Path) -> TaskData:
    """Open the arrays in the cache folders `rows` and `tokens`."""
    from datasets import Dataset

    try:
        meta = json.loads((rows / META_FILE).read_text())
        arrays = {file.stem: open_array(file) for folder in (rows, tokens) for file in folder.glob("*.npy")}
        texts = Dataset.from_file(str(rows / TEXTS_FILE))
        _check_lengths(arrays, meta["num_rows"], meta["num_texts"], len(texts))
        return TaskData(
            name=table.name,
            kind=table.kind,
            path=path,
            num_rows=meta["num_rows"],
            num_texts=meta["num_texts"],
            content_hash=meta["content_hash"],
            label_names=tuple(meta["label_names"]),
            bad_rows=meta["bad_rows"],
            bad_row_messages=tuple(meta["messages"]),
            files=tuple(FileFacts(**facts) for facts in meta["files"]),
            texts=texts,
            **arrays,
        )
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise ValueError(damaged(rows, type(error).__name__)) from error


def _check_lengths(arrays: dict[str, np.ndarray], num_rows: int, num_texts: int, num_stored: int) -> None:
    """Check that what lies in the cache belongs together, without reading it.

    Raises:
        ValueError: it does not.
    """
    expected = {"_R": num_rows, "_R1": num_rows + 1, "_G": num_texts, "_G1": num_texts + 1}
    lengths = {name: expected.get(name[name.rindex("_") :]) for name in arrays}
    if num_stored != num_texts or any(n is not None and len(arrays[name]) != n for name, n in lengths.items()):
        raise ValueError("arrays of other lengths than the table")
    if arrays["token_start_G1"][-1] != len(arrays["token_E"]):
        raise ValueError("token ids of another number than the table")
