"""The data of `python -m benchmarks.negatives`: four data sets, written by `runner/data.py`."""

from __future__ import annotations

from pathlib import Path

from benchmarks.runner.data import RetrievalSize, write_retrieval_set

# Data set → file of its training pairs. Its held-out data are in the folder retrieval/SET.
TRAIN_FILES = {
    "stackfaq_en": "train/stackfaq_en.train.jsonl.gz",
    "cranfield_en": "train/cranfield_en.train.jsonl.gz",
    "cmrc2018_zh": "train/cmrc2018_zh.train.jsonl.gz",
    "alpaca_en": "prompt_response/alpaca_en/train.jsonl.gz",
}
MINED_IN_TRAINING_ROWS = ("alpaca_en",)  # its corpus contains only held-out answers


def write_data(root: Path, folder: Path, size: RetrievalSize) -> dict[str, dict[str, int]]:
    """Write the files of every data set and return the number of rows in each.

    Raises:
        ValueError: a file of the data is missing.
    """
    return {
        name: write_retrieval_set(root, folder, name, file, size, mine_in_rows=name in MINED_IN_TRAINING_ROWS)
        for name, file in TRAIN_FILES.items()
    }
