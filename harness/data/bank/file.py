"""Reads a bank that `harness mine` wrote: the ranked candidates of every training row, as memory-mapped arrays.

bank.json        which data were ranked, by which model, from which corpus; content hashes of the data and the corpus,
                 and of the three arrays
candidate_RC.npy int32 or int64 text ids of the corpus (without a corpus: of the training data), -1 padded
score_RC.npy     float32 cosine similarity by the model that ranked the candidates, NaN padded
count_R.npy      int32 number of candidates of each row
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from harness import comm, rank0
from harness.data.table.index import TaskData
from harness.data.table.npy import open_array
from harness.files import find_changes, replace_file, sizes_and_hashes, sync
from harness.settings import checked_json as json
from harness.settings.in_short import in_short

FORMAT_VERSION = 2
FACTS = "bank.json"
_ARRAYS = ("candidate_RC", "score_RC", "count_R")
FILES = (*(f"{name}.npy" for name in _ARRAYS), FACTS)


@dataclass(frozen=True, slots=True)
class BankFacts:
    """The content of bank.json: which data were ranked, and by which model."""

    data_hash: str  # content hash of the training data whose rows have candidates
    corpus: str | None  # path of the corpus as the user gave it; None: the training data's own documents
    corpus_hash: str  # content hash of the data that the candidates come from
    num_candidates: int  # candidates wanted per row
    # Model, weights, pooling, prompts, lengths. The scores may serve as S0 only if all of them are equal to the run's.
    ranked_by: dict[str, Any]
    filters: dict[str, Any]
    search: dict[str, Any] = field(default_factory=lambda: {"index": "exact", "recall": 1.0})
    arrays: dict[str, Any] = field(default_factory=dict)  # file → [bytes, hash]; `write` fills it in
    version: int = FORMAT_VERSION

    def write(self, folder: Path) -> None:
        """Write bank.json after all other files, so that a folder with bank.json has complete arrays.

        This holds even after a power cut, because the arrays are synced to disk first.
        """
        files = [folder / f"{name}.npy" for name in _ARRAYS]
        for path in (*files, folder, folder.parent):
            sync(path)
        content = asdict(self) | {"arrays": sizes_and_hashes(folder, files)}
        replace_file(folder / FACTS, json.dumps(content, indent=2, ensure_ascii=False) + "\n")

    @classmethod
    def read(cls, folder: Path) -> BankFacts:
        """Read bank.json of a bank's folder.

        Raises:
            ValueError: the folder is not a finished bank, or the bank has another format version.
        """
        try:
            facts = json.loads((folder / FACTS).read_text())
            if facts["version"] != FORMAT_VERSION:
                raise ValueError(f"version {facts['version']}, not {FORMAT_VERSION}")
            return cls(**facts)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"negatives.bank: got {str(folder)!r} ({type(error).__name__}: {in_short(str(error))}), "
                f"expected a folder finished by "
                "harness mine; mine it again"
            ) from error


@dataclass(frozen=True, slots=True)
class SearchedCandidates:
    """Candidates ranked by a search over a corpus; see `negatives.Candidates` for the methods."""

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


def check_bank(folder: Path) -> None:
    """Read the arrays of a bank and compare them with the hashes in bank.json. Every rank must call it.

    One rank of each host reads; the others wait.

    Raises:
        ValueError: on every rank, if a host finds an array that is not as it was written.
    """
    expected = BankFacts.read(folder).arrays
    names = {f"{name}.npy" for name in _ARRAYS}
    problems = rank0.by_each(lambda: find_changes(folder, expected) if comm.local_rank() == 0 else None)
    lacking = sorted(names - set(expected))
    found = next((problem for problem in problems if problem), f"no hash of {lacking[0]}" if lacking else None)
    if found is not None:
        raise ValueError(
            f"negatives.bank: got {str(folder)!r}, which is damaged ({found}), expected what was written there; "
            "restore it or mine it again"
        )


def open_bank(folder: Path, data: TaskData, corpus: TaskData | None, offset: int) -> SearchedCandidates:
    """Memory-map the bank in `folder`.

    data: the training data whose rows have candidates. corpus: the opened corpus that bank.json names, if there is one.

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
