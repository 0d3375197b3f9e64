"""Evaluation folders whose files leave open what is meant are refused."""

from __future__ import annotations

from pathlib import Path

import datasets
import pytest

from harness.evaluation.datasets import load_evaluation_data


def test_two_files_of_one_name_in_a_folder_are_refused(tmp_path: Path) -> None:
    """Which of them is meant nobody can know; the first one of a list would be scored in silence."""
    for name in ("corpus.jsonl", "corpus.jsonl.gz", "queries.jsonl"):
        (tmp_path / name).write_text('{"_id": "1", "text": "a"}\n')
    with pytest.raises(
        ValueError, match=r"got corpus\.[\w.]+ and corpus\.[\w.]+, expected one file called corpus; rem"
    ):
        load_evaluation_data(tmp_path)


def test_training_and_test_rows_that_number_their_classes_otherwise_are_refused(tmp_path: Path) -> None:
    for name, names in (("train", ["bad", "good"]), ("test", ["good", "bad"])):
        features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=names)})
        rows = {"text": ["x", "y"], "label": [0, 1]}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / f"{name}.parquet")
    with pytest.raises(ValueError, match="equal numbers would stand for other labels"):
        load_evaluation_data(tmp_path)
