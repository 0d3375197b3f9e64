"""The scores of every kind are mteb's own on the same vectors, at several sizes, with and without ties.

mteb's code runs here (`mteb_tasks.py`), from reading the rows to the reported number, against `evaluate` on files.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.evaluation.runner import evaluate, load

pytest.importorskip("mteb")
from tests.unit.evaluation import mteb_tasks

EXACT = 1e-6
SIZES_AND_TIES = [(25, False), (25, True), (140, False), (140, True)]


def vectors(num_texts: int, ties: bool, seed: int = 0) -> dict[str, np.ndarray]:
    """Unit vectors of `text 0`, `text 1`, ...

    ties: of 16 coordinates ±1/4, whose products float32 holds exactly, so that mteb's own products have ties, too.
    """
    random = np.random.RandomState(seed)
    rows = random.standard_normal((num_texts, 16))
    rows = np.sign(rows) / 4 if ties else rows / np.linalg.norm(rows, axis=1, keepdims=True)
    if ties:
        rows[: num_texts // 5] = rows[0]  # identical vectors of different texts
    return {f"text {i}": row.astype(np.float32) for i, row in enumerate(rows)}


def write(file: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def ours(path: Path, table: Mapping[str, np.ndarray], *, ignore_identical_ids: bool = False) -> dict[str, float]:
    """Scores of vectors that were not normalised: three times as long, without an effect on any score."""
    loaded = load([str(path)], ignore_identical_ids=ignore_identical_ids)
    return evaluate(lambda texts, role: np.stack([3 * table[text] for text in texts]), loaded)[loaded.facts[0]["name"]]


def write_beir(
    folder: Path, queries: Mapping[str, str], documents: Mapping[str, str], qrels: Mapping[str, Any]
) -> Path:
    write(folder / "corpus.jsonl", [{"_id": name, "text": text} for name, text in documents.items()])
    write(folder / "queries.jsonl", [{"_id": name, "text": text} for name, text in queries.items()])
    (folder / "qrels").mkdir()
    lines = [f"{query}\t{document}\t{grade}" for query in qrels for document, grade in qrels[query].items()]
    (folder / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n")
    return folder


def judged_corpus(size: int) -> tuple[dict[str, str], dict[str, str], dict[str, dict[str, int]]]:
    """A fifth of the texts are queries; five judgements each, of grades 0 to 2."""
    random = np.random.RandomState(size)
    queries = {f"q{i}": f"text {i}" for i in range(0, size, 5)}
    documents = {f"d{i}": f"text {i}" for i in range(size)}
    qrels = {q: {f"d{i}": int(random.randint(0, 3)) for i in random.choice(size, 5, replace=False)} for q in queries}
    return queries, documents, qrels


@pytest.mark.parametrize(("size", "ties"), SIZES_AND_TIES)
def test_retrieval_scores_are_mtebs(tmp_path: Path, size: int, ties: bool) -> None:
    table, (queries, documents, qrels) = vectors(size, ties), judged_corpus(size)
    truth = mteb_tasks.retrieval(table, queries, documents, qrels)
    scores = ours(write_beir(tmp_path / "data", queries, documents, qrels), table)
    assert scores == pytest.approx({name: truth[name] for name in scores}, abs=EXACT)


def test_more_equal_documents_than_are_searched_rank_as_in_mteb(tmp_path: Path) -> None:
    """Of 300 documents with one vector, those that the measures see are the ones with the largest ids."""
    table = dict.fromkeys((f"text {i}" for i in range(300)), np.full(16, 0.25, dtype=np.float32))
    documents = {f"d{i}": f"text {i}" for i in range(300)}
    qrels = {"q1": {"d99": 1, "d95": 2, "d10": 1}, "q2": {"d100": 1}}
    queries = {"q1": "text 1", "q2": "text 2"}
    truth = mteb_tasks.retrieval(table, queries, documents, qrels)
    scores = ours(write_beir(tmp_path / "data", queries, documents, qrels), table)
    assert scores == pytest.approx({name: truth[name] for name in scores}, abs=EXACT)
    assert scores["mrr_at_10"] == 1 / 2  # d99 stands first for q1, d100 far below for q2


@pytest.mark.parametrize("size", [20, 60])
def test_queries_that_are_documents_do_not_find_themselves_as_in_mteb(tmp_path: Path, size: int) -> None:
    table, (_, documents, qrels) = vectors(size, ties=False), judged_corpus(size)
    queries = {f"d{i}": f"text {i}" for i in range(0, size, 5)}
    qrels = {f"d{name[1:]}": {d: g for d, g in grades.items() if d[1:] != name[1:]} for name, grades in qrels.items()}
    folder = write_beir(tmp_path / "data", queries, documents, qrels)
    truth = mteb_tasks.retrieval(table, queries, documents, qrels, ignore_identical_ids=True)
    scores = ours(folder, table)
    assert scores == pytest.approx({name: truth[name] for name in scores}, abs=EXACT)
    assert scores["ndcg_at_10"] > mteb_tasks.retrieval(table, queries, documents, qrels)["ndcg_at_10"]
    assert load([str(folder)]).facts[0]["counts"]["own_documents"] == len(queries)


def test_a_document_with_the_querys_id_but_another_text_is_ranked_unless_it_is_asked_for(tmp_path: Path) -> None:
    """Home-made sets number queries and documents alike; FiQA's ids meet by chance."""
    table, (_, documents, _) = vectors(20, ties=False), judged_corpus(20)
    queries = {f"d{i}": f"text {i + 1}" for i in range(4)}
    qrels = {f"d{i}": {f"d{i}": 1, f"d{i + 1}": 1} for i in range(4)}
    folder = write_beir(tmp_path / "data", queries, documents, qrels)
    for ignored in (False, True):
        truth = mteb_tasks.retrieval(table, queries, documents, qrels, ignore_identical_ids=ignored)
        scores = ours(folder, table, ignore_identical_ids=ignored)
        assert scores == pytest.approx({name: truth[name] for name in scores}, abs=EXACT)
        counts = load([str(folder)], ignore_identical_ids=ignored).facts[0]["counts"]
        assert counts == ({"identical_ids": 4, "own_documents_judged_relevant": 4} if ignored else {})


@pytest.mark.parametrize(("size", "ties"), SIZES_AND_TIES)
def test_reranking_scores_are_mtebs(tmp_path: Path, size: int, ties: bool) -> None:
    table, random = vectors(size, ties), np.random.RandomState(size)
    rows = []
    for i in range(0, size, 3):
        documents = [f"text {n}" for n in random.choice(size, 15, replace=False)]
        rows.append({"query": f"text {i}", "positive": documents[: 1 + i % 3], "negative": documents[3:]})
    rows.append({"query": "text 1", "positive": ["text 2"], "negative": []})  # mteb scores neither of these two
    rows.append({"query": "text 1", "positive": [], "negative": ["text 2"]})
    truth, scores = mteb_tasks.rerank(table, rows), ours(write(tmp_path / "rows.jsonl", rows), table)
    assert scores["map"] == scores["map_at_1000"] == pytest.approx(truth["map_at_1000"], abs=EXACT)
    assert scores["mrr"] == scores["mrr_at_10"] == pytest.approx(truth["mrr_at_10"], abs=EXACT)


def test_a_collapsed_model_reranks_as_badly_as_in_mteb(tmp_path: Path) -> None:
    """All cosines equal: the positives stand behind all negatives."""
    rows = [{"query": "text 0", "positive": ["text 1"], "negative": [f"text {i}" for i in range(2, 6)]}]
    table = dict.fromkeys((f"text {i}" for i in range(6)), np.full(16, 0.25, dtype=np.float32))
    truth, scores = mteb_tasks.rerank(table, rows), ours(write(tmp_path / "rows.jsonl", rows), table)
    assert scores["map"] == scores["mrr"] == truth["map_at_1000"] == truth["mrr_at_10"] == 1 / 5


def pairs(size: int, *, identical: int) -> tuple[list[str], list[str]]:
    """Pairs of texts, the first `identical` of them a text with itself."""
    random = np.random.RandomState(size)
    first, second = random.permutation(size), random.permutation(size)
    second = np.where(first == second, (second + 1) % size, second)
    second[:identical] = first[:identical]
    return [f"text {i}" for i in first], [f"text {i}" for i in second]


@pytest.mark.parametrize(("size", "ties"), SIZES_AND_TIES)
def test_sts_scores_are_mtebs(tmp_path: Path, size: int, ties: bool) -> None:
    """Pairs of a text with itself have equal cosines, whatever the rounding of the vectors."""
    table, (texts1, texts2) = vectors(size, ties), pairs(size, identical=5)
    grades = np.random.RandomState(1).randint(0, 6, size).astype(float).tolist()
    rows = [{"text1": a, "text2": b, "score": grade} for a, b, grade in zip(texts1, texts2, grades, strict=True)]
    truth, scores = mteb_tasks.sts(table, texts1, texts2, grades), ours(write(tmp_path / "rows.jsonl", rows), table)
    assert scores["spearman"] == pytest.approx(truth["cosine_spearman"], abs=EXACT)
    assert scores["pearson"] == pytest.approx(truth["cosine_pearson"], abs=EXACT)


@pytest.mark.parametrize(("size", "ties"), SIZES_AND_TIES)
def test_pair_classification_scores_are_mtebs(tmp_path: Path, size: int, ties: bool) -> None:
    """Without ties no text stands beside itself: mteb's products put noise between such pairs, and take the maximum."""
    table, (texts1, texts2) = vectors(size, ties), pairs(size, identical=5 * ties)
    same = [bool(label) for label in np.random.RandomState(1).randint(0, 2, size)]
    rows = [{"text1": a, "text2": b, "label": int(label)} for a, b, label in zip(texts1, texts2, same, strict=True)]
    truth = mteb_tasks.pair_classification(table, texts1, texts2, same)
    scores = ours(write(tmp_path / "rows.jsonl", rows), table)
    assert scores == pytest.approx({name: truth[name] for name in scores}, abs=EXACT)


@pytest.mark.parametrize(("size", "ties"), [(25, True), (90, False)])
def test_classification_scores_are_mtebs(tmp_path: Path, size: int, ties: bool) -> None:
    """At the smaller size some labels have fewer than 8 texts to draw."""
    table, random = vectors(2 * size, ties), np.random.RandomState(1)
    num_labels = 4 if size < 50 else 11
    train = [f"text {i}" for i in range(size)], random.randint(0, num_labels, size).tolist()
    test = [f"text {i}" for i in range(size, 2 * size)], random.randint(0, num_labels, size).tolist()
    for name, (texts, labels) in (("train", train), ("test", test)):
        rows = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
        write(tmp_path / "data" / f"{name}.jsonl", rows)
    truth, scores = mteb_tasks.classification(table, train, test), ours(tmp_path / "data", table)
    assert scores == pytest.approx({name: truth[name] for name in scores}, abs=EXACT)


@pytest.mark.parametrize(("size", "ties"), [(25, True), (400, False), (2600, False)])
def test_clustering_scores_are_mtebs(tmp_path: Path, size: int, ties: bool) -> None:
    """At the largest size mteb draws 2,048 of the texts; up to there all are taken in their order."""
    table, random = vectors(size, ties), np.random.RandomState(1)
    texts, labels = list(table), random.randint(0, 5, size).tolist()
    for text, label in zip(texts, labels, strict=True):
        table[text] = table[text] + np.eye(16, dtype=np.float32)[label] / 4
        table[text] /= np.linalg.norm(table[text])
    rows = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    truth = mteb_tasks.clustering(table, texts, labels, drawn=size > 2048)["v_measure"]
    path = write(tmp_path / "rows.jsonl", rows)
    assert ours(path, table)["v_measure"] == pytest.approx(truth, abs=EXACT)
    counts = load([str(path)]).facts[0]["counts"]
    assert counts == ({"texts_not_drawn": size - 2048} if size > 2048 else {})


def test_a_hierarchy_of_labels_is_scored_level_by_level_as_in_mteb(tmp_path: Path) -> None:
    table, random = vectors(60, ties=False), np.random.RandomState(1)
    texts, labels = list(table), [[f"a{random.randint(2)}", f"b{random.randint(5)}"] for _ in range(60)]
    truth = mteb_tasks.clustering(table, texts, labels, drawn=False)["v_measure"]
    rows = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    assert ours(write(tmp_path / "rows.jsonl", rows), table)["v_measure"] == pytest.approx(truth, abs=EXACT)
    rows[7]["label"] = ["a0"]
    with pytest.raises(ValueError, match=r"rows\.jsonl:8: label: got \['a0'\], expected 2 levels as in the first row"):
        load([str(write(tmp_path / "rows.jsonl", rows))])
