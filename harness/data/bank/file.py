"""A bank on disk, as `harness mine` writes it: the ranked candidates of every training row, memory-mapped.

bank.json        what was ranked, by which model, from which corpus; hashes of both sides
candidate_RC.npy int32 or int64 text ids of the corpus (without a corpus: of the training data), -1 padded
score_RC.npy     float32 cosine by the model that ranked them, NaN padded
count_R.npy      int32 candidates of each row
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.table.index import TaskData
from harness.data.table.npy import open_array
from harness.files import replace_file, sync

FORMAT_VERSION = 1
FACTS = "bank.json"
_ARRAYS = ("candidate_RC", "score_RC", "count_R")


@dataclass(frozen=True, slots=True)
class BankFacts:
    """What bank.json says: what was ranked, and by what."""

    data_hash: str  # content hash of the training data whose rows have candidates
    corpus: str | None  # path of the corpus, as given; None: the training data's own documents
    corpus_hash: str  # content hash of what the candidates stand in
    num_candidates: int  # wanted per row
    ranked_by: dict[str, Any]  # model, weights, pooling, prompts, lengths; only with the same are the scores S0
    filters: dict[str, Any]
    search: dict[str, Any] = field(default_factory=lambda: {"index": "exact", "recall": 1.0})
    version: int = FORMAT_VERSION

    def write(self, folder: Path) -> None:
        """Write bank.json, last of all files: a folder that holds it holds the whole arrays, even after a power cut."""
        for path in (*(folder / f"{name}.npy" for name in _ARRAYS), folder, folder.parent):
            sync(path)
        replace_file(folder / FACTS, json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, folder: Path) -> BankFacts:
        """What a bank says of itself.

        Raises:
            ValueError: the folder is no finished bank, or one of another version.
        """
        try:
            facts = json.loads((folder / FACTS).read_text())
            if facts["version"] != FORMAT_VERSION:
                raise ValueError(f"version {facts['version']}")
            return cls(**facts)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"negatives.bank: got {str(folder)!r} ({type(error).__name__}: {error}), expected a folder finished by "
                "harness mine"
            ) from error


@dataclass(frozen=True, slots=True)
class SearchedCandidates:
    """Candidates that a search over a corpus has ranked; see `negatives.Candidates`."""

    texts: TaskData
    offset: int
    candidate_RC: np.ndarray
    score_RC: np.ndarray
    count_R: np.ndarray

    def count(self, row_B: np.ndarray) -> np.ndarray:
        return self.count_R[row_B].astype(np.int64)

    def text_ids(self, row_B: np.ndarray, rank_BM: np.ndarray) -> np.ndarray:
        return self._at(self.candidate_RC, row_B, rank_BM, -1).astype(np.int64)

    def scores(self, row_B: np.ndarray, rank_BM: np.ndarray) -> np.ndarray:
        return self._at(self.score_RC, row_B, rank_BM, np.nan).astype(np.float32)

    def _at(self, value_RC: np.ndarray, row_B: np.ndarray, rank_BM: np.ndarray, padding: float) -> np.ndarray:
        inside_BM = rank_BM < self.count(row_B)[:, None]
        return np.where(inside_BM, value_RC[row_B[:, None], np.where(inside_BM, rank_BM, 0)], padding)


def open_bank(folder: Path, data: TaskData, corpus: TaskData | None, offset: int) -> SearchedCandidates:
    """Memory-map a bank of `data`'s rows; `corpus`: the opened corpus that its facts name.

    Raises:
        ValueError: the bank was made for other data or another corpus.
    """
    facts, texts = BankFacts.read(folder), data if corpus is None else corpus
    for what, table, expected in (
        ("other training data", data, facts.data_hash),
        ("another corpus", texts, facts.corpus_hash),
    ):
        if table.content_hash != expected:
            raise ValueError(
                f"negatives.bank: got {str(folder)!r}, made for {what} than {table.path}, expected a bank of "
                "the same files; run harness mine again"
            )
    arrays = (open_array(folder / f"{name}.npy") for name in _ARRAYS)
    return SearchedCandidates(texts, offset, *arrays)
