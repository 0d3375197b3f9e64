"""What evaluation leaves out or reads leniently is counted, shown and recorded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.evaluation.counts import COUNTED, count_lines
from harness.evaluation.runner import evaluate, load


def write(file: Path, *rows: Any) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return file


def encode(texts: Sequence[str], role: str) -> np.ndarray:
    return np.stack([np.random.RandomState(sum(map(ord, text))).standard_normal(8) for text in texts]).astype("f")


def counts(path: Path) -> tuple[int, dict[str, int]]:
    """(rows that are scored, counts) of a data set that can be scored."""
    loaded = load([str(path)])
    evaluate(encode, loaded)
    return loaded.facts[0]["rows"], loaded.facts[0]["counts"]


Q, A, B, C = "where is salt", "in a dry jar", "at noon", "on the wall"


@pytest.mark.parametrize(
    "rows",
    [
        [{"query": Q, "positive": A, "negative": B, "negative_1": C}],
        [{"query": Q, "positive": A, "negative_1": B, "negative_2": C}],
        [{"query": Q, "positive": [A], "negative": [B, C]}],
        [{"anchor": Q, "positive": A, "negative": [B, C]}],
        [{"query": Q, "pos": [A], "neg": [B, C]}],
        [{"query": Q, "positive": A}, {"query": Q, "positive": A, "negative": [B, C]}],
    ],
)
def test_reranking_reads_every_form_of_negatives_that_training_reads(tmp_path: Path, rows: list[Any]) -> None:
    (data,) = load([str(write(tmp_path / "rows.jsonl", *rows, ""))]).data.values()
    assert (data.queries, data.documents, data.relevant) == ([Q], [[A, B, C]], [[True, False, False]])


def test_rows_that_leave_nothing_to_rank_are_counted_and_not_scored(tmp_path: Path) -> None:
    file = write(
        tmp_path / "rows.jsonl",
        {"query": Q, "positive": [A], "negative": [C]},
        {"query": Q, "positive": [B], "negative": []},
        {"query": Q, "positive": [B], "negative": None},
        {"query": Q, "positive": [], "negative": [C]},
    )
    assert counts(file) == (1, {"rows_without_positives": 1, "rows_without_negatives": 2})
    with pytest.raises(ValueError, match="got no row with a positive and a negative, expected at least one to rerank"):
        load([str(write(file, {"query": Q, "positive": A}))])


def test_test_texts_of_a_label_that_was_not_trained_are_counted(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", {"text": A, "label": "x"}, {"text": B, "label": "y"})
    write(tmp_path / "test.jsonl", {"text": C, "label": "x"}, {"text": Q, "label": "z"})
    assert counts(tmp_path) == (2, {"test_texts_of_labels_without_training_text": 1})


def test_pairs_of_one_score_have_no_correlation_and_are_counted(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", *[{"text1": A, "text2": text, "score": 3} for text in (A, B, C)])
    assert counts(file) == (3, {"pairs_of_one_score": 3})
    assert np.isnan(evaluate(encode, [str(file)])["rows"]["spearman"])


def test_a_query_that_is_a_document_without_its_title_is_its_own_document(tmp_path: Path) -> None:
    write(
        tmp_path / "corpus.jsonl",
        {"_id": "a", "title": "Kitchen", "text": A},
        {"_id": "b", "text": B},
        {"_id": 3, "text": C},
    )
    write(tmp_path / "queries.jsonl", {"id": "a", "text": A}, {"id": "b", "text": f"{B} "}, {"id": 3, "text": Q})
    write(tmp_path / "qrels" / "test.tsv", "a\tb\t1", "b\tb\t1", "b\ta\t1", "3\t3\t1")
    assert counts(tmp_path) == (3, {"own_documents": 2, "own_documents_judged_relevant": 1})


def test_every_count_has_a_line_that_says_what_becomes_of_it() -> None:
    lines = count_lines("faq", dict.fromkeys(COUNTED, 1234))
    assert all(line.startswith("faq: ") and line.endswith(": 1,234") and "(" in line for _, line in lines)
    assert {is_warning for is_warning, _ in lines} == {True, False}


def test_each_data_set_says_what_it_holds(tmp_path: Path) -> None:
    file = write(tmp_path / "rows.jsonl", {"query": Q, "positive": [A], "negative": [C]}, {"query": Q, "positive": [A]})
    assert load([str(file)]).count_lines() == [
        (False, "rows: reranking, queries: 1"),
        (True, "rows: rows without a negative (not scored, as in mteb): 1"),
    ]
