"""What evaluation leaves out or reads leniently is counted, shown and recorded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset

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


def _folder(place: Path, corpus: list[Any], queries: list[Any]) -> Path:
    write(place / "corpus.jsonl", *corpus)
    write(place / "queries.jsonl", *queries)
    write(place / "qrels" / "test.tsv", "q1\td1\t1")
    return place


CORPUS = [{"_id": "d1", "text": A, "metadata": {}, "summary": "salt"}, {"_id": "d2", "text": B, "title": ""}]


def test_columns_that_no_score_depends_on_are_listed(tmp_path: Path) -> None:
    pairs = [{"text1": Q, "text2": text, "label": i, "labels": 1 - i, "id": i} for i, text in enumerate((A, B))]
    intents = [{"text": text, "label": i, "label_text": "x"} for i, text in enumerate((A, B))]
    write(tmp_path / "intents" / "train.jsonl", *intents)
    write(tmp_path / "intents" / "test.jsonl", *intents)
    listed = {
        _folder(tmp_path / "faq", CORPUS, [{"_id": "q1", "text": Q, "title": "Kitchen"}]): "summary, title",
        write(tmp_path / "pairs.jsonl", *pairs): "labels, id",
        write(tmp_path / "groups.jsonl", *intents): "label_text",
        tmp_path / "intents": "label_text",
        write(
            tmp_path / "sts.jsonl", *({"text1": Q, "text2": t, "score": len(t), "genre": "x"} for t in (A, B))
        ): "genre",
        write(tmp_path / "rows.jsonl", {"query": Q, "positive": A, "negative": [B], "answer_id": 3}): "answer_id",
    }
    for path, columns in listed.items():
        lines = [line for _, line in load([str(path)]).count_lines()]
        assert lines[-1] == f"{path.stem}: columns not used: {columns}"


def test_a_querys_instruction_stands_behind_its_text_as_in_mteb(tmp_path: Path) -> None:
    queries = [{"_id": "q1", "text": Q, "instruction": "Find a place"}, {"_id": "q2", "text": Q, "instruction": None}]
    mteb = pytest.importorskip("mteb._create_dataloaders")
    text, _ = mteb._combine_queries_with_instruction_text(Dataset.from_list(queries))["text"]
    (loaded,) = load([str(_folder(tmp_path / "faq", CORPUS, queries))]).data.values()
    assert loaded.queries == {"q1": text} == {"q1": f"{Q} Find a place"}


def test_documents_to_rank_beside_a_corpus_are_refused(tmp_path: Path) -> None:
    folder = _folder(tmp_path / "faq", CORPUS, [{"_id": "q1", "text": Q}])
    write(folder / "top_ranked.jsonl", {"query-id": "q1", "corpus-ids": ["d1"]})
    with pytest.raises(ValueError, match=r"top_ranked\.jsonl: got the documents to rank"):
        load([str(folder)])


def test_labels_and_scores_of_rows_to_rerank_are_counted(tmp_path: Path) -> None:
    rows = [(Q, A, 1), (Q, B, 0), (Q, A, 0), ("when", B, 0)]
    labelled = write(tmp_path / "a.jsonl", *({"query": q, "positive": t, "label": label} for q, t, label in rows))
    assert counts(labelled) == (1, {"rows_without_positives": 1, "queries_with_both_labels": 1})
    scored = {"query": Q, "pos": [A], "neg": [B], "pos_scores": [1.0], "neg_scores": [0.0]}
    assert counts(write(tmp_path / "b.jsonl", scored)) == (1, {"row_scores": 1})


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"text1": Q, "text2": A, "score": 1, "scores": 1}, "rename the column, or remove it"),
        ({"query": Q, "positive": A, "passage_negatives": [B]}, "rename the column, or remove it"),
        ({"query": Q, "pos": [A], "neg": [B], "type": "symmetric_sts"}, "expected no such column in evaluation data"),
    ],
)
def test_a_mistake_in_evaluation_data_is_not_answered_with_a_recipes_task(tmp_path: Path, row: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        load([str(write(tmp_path / "rows.jsonl", row, row))])
    assert "recipe" not in str(caught.value)
