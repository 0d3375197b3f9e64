"""Judgements are read as the field writes them: nothing is taken for something else, and what is odd is counted."""

from __future__ import annotations

import gzip
import json
from collections.abc import Collection
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.evaluation.datasets import load_evaluation_data
from harness.evaluation.judgements import judgements_file, read_judgements
from harness.evaluation.kinds.retrieval import RetrievalData
from tests.tiny import write_jsonl

QUERIES = {"q1": "x", "q2": "y", "7": "z"}


def known(documents: Collection[str]) -> set[str]:
    return {"d1", "d2", "d3", "8"} & set(documents)


def read(folder: Path, content: str, name: str = "test.tsv") -> tuple[dict[str, dict[str, int]], dict[str, int]]:
    file = folder / name
    file.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    qrels, counts = read_judgements(file, QUERIES, known)
    return qrels, {name: n for name, n in counts.items() if name != "queries_without_judgements"}


HEADER = "query-id\tcorpus-id\tscore\n"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("q1\td3\t1.0\nq2\td2\t1\n", {"q1": {"d3": 1}, "q2": {"d2": 1}}),  # the first grade is a decimal
        ("q1\td3\t+2\n", {"q1": {"d3": 2}}),
        ("q1\td3\t-1\nq1\td2\t2\n", {"q1": {"d3": -1, "d2": 2}}),
        ("query-id\tcorpus-id\tscore\nq1\td1\t1\n", {"q1": {"d1": 1}}),
        ("\n\nQuery_ID\tDoc ID\tRelevance\n\nq1\td1\t1\n\n", {"q1": {"d1": 1}}),
        ("corpus-id\tquery-id\tscore\nd1\tq1\t1\n", {"q1": {"d1": 1}}),  # the names say which column is which
        ("score\tqid\tdocid\n2\tq1\td1\n", {"q1": {"d1": 2}}),
        ("q1 0 d1 1\nq2 0 d2 2\n", {"q1": {"d1": 1}, "q2": {"d2": 2}}),  # TREC
        ("q1\tQ0\td1\t1\n", {"q1": {"d1": 1}}),
        ("# qid iter docno rel\nq1   0   d1  1\n", {"q1": {"d1": 1}}),
        ("qid iter docno rel\nq1   0   d1  1\n", {"q1": {"d1": 1}}),
        ("q1 d1 1\n", {"q1": {"d1": 1}}),
        ("7\t8\t1\n", {"7": {"8": 1}}),  # numbers only, no header
        ("\ufeffq1\td1\t1\r\nq2\td2\t1\r\n", {"q1": {"d1": 1}, "q2": {"d2": 1}}),
    ],
)
def test_a_header_is_known_by_its_names_and_every_other_line_is_a_judgement(
    tmp_path: Path, content: str, expected: dict[str, dict[str, int]]
) -> None:
    assert read(tmp_path, content) == (expected, {})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (HEADER + "q1\td1\t0.5", r":2: score: got '0\.5', expected a whole number"),
        (HEADER + "q1\td1\tnan", ":2: score: got 'nan', expected a whole number"),
        (HEADER + "q1\td1\t99999999999", ":2: score: got '99999999999', expected a whole number"),
        (
            "topic\tanswer\tgood\nq1\td1\t1",
            ":1: score: got 'good', .*; a header has the names query-id",
        ),
        (HEADER + "q1\td1\t", ":2: score: got '', expected a whole number"),
        (HEADER + "\td1\t1", ":2: query-id: got '', expected a text or a whole number"),
        (HEADER + "q1\td1", ":2: columns: got 2, expected 3 as above"),
        ("q1\td1\t1\nq1\t0\td2\t1", ":2: columns: got 4, expected 3 as above"),
        (HEADER + "q1\td1\t1\nq2\td1\t1\nq1\td1\t2", ":4: score: got 2, expected 1 as in line 2"),
        (HEADER, "got no judgements, expected at least one of a known query"),
    ],
)
def test_a_judgement_that_cannot_be_meant_is_refused_in_one_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read(tmp_path, content)
    assert "\n" not in str(caught.value)


def test_what_is_odd_but_usual_is_accepted_and_counted(tmp_path: Path) -> None:
    content = HEADER + "q1\td1\t1\nq1\td1\t1\nq1\tgone\t2\nq1\tgone\t2\nq9\td1\t1\nq9\td2\t1\nq2\td1\t0\nq2\td2\t-1\n"
    file = tmp_path / "test.tsv"
    file.write_text(content)
    qrels, counts = read_judgements(file, QUERIES, known)
    assert qrels == {"q1": {"d1": 1, "gone": 2}, "q2": {"d1": 0, "d2": -1}}
    assert counts == {
        "repeated_judgements": 2,
        "judgements_of_missing_documents": 1,
        "judgements_of_unknown_queries": 2,
        "queries_without_judgements": 1,
        "queries_without_relevant_documents": 1,
    }


@pytest.mark.parametrize("name", ["test.jsonl", "test.parquet", "test.tsv.gz", "test.txt", "test.qrels"])
def test_judgements_may_lie_in_any_file_that_the_harness_reads(tmp_path: Path, name: str) -> None:
    rows = [{"query-id": 7, "corpus-id": "d1", "score": 1}, {"query-id": 7, "corpus-id": "8", "score": 2}]
    file = tmp_path / "qrels" / name
    file.parent.mkdir()
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(rows), file)
        found = read_judgements(file, QUERIES, known)[0]
    elif name.endswith(".jsonl"):
        file.write_text("".join(json.dumps(row) + "\n" for row in rows) + "\n")
        found = read_judgements(file, QUERIES, known)[0]
    else:
        found = read(file.parent, "7\td1\t1\n7\t8\t2\n", name)[0]
    assert found == {"7": {"d1": 1, "8": 2}}
    assert judgements_file(tmp_path) == file


def test_judgements_may_lie_beside_the_corpus(tmp_path: Path) -> None:
    (tmp_path / "qrels.tsv").write_text("q1\td1\t1\n")
    assert judgements_file(tmp_path) == tmp_path / "qrels.tsv"
    (tmp_path / "qrels.tsv").unlink()
    with pytest.raises(ValueError, match=r"qrels: got no judgements, expected test\.tsv or a single file"):
        judgements_file(tmp_path)


def flag_embedding(folder: Path, split: str = "test") -> Path:
    """The folder that FlagEmbedding's evaluator reads (`--dataset_dir`)."""
    documents = [{"id": "d1", "title": "", "text": "water"}, {"id": "d2", "title": "", "text": "stone"}]
    write_jsonl(folder / "corpus.jsonl", documents)
    write_jsonl(folder / f"{split}_queries.jsonl", [{"id": "q1", "text": "what flows"}])
    write_jsonl(folder / f"{split}_qrels.jsonl", [{"qid": "q1", "docid": "d1", "relevance": 1}])
    return folder


@pytest.mark.parametrize("split", ["test", "dev"])
def test_a_folder_of_flag_embeddings_evaluator_is_retrieval(tmp_path: Path, split: str) -> None:
    """Its users have such folders; renaming three files is no work for them to do."""
    data = load_evaluation_data(flag_embedding(tmp_path, split))
    assert isinstance(data, RetrievalData)
    assert (data.queries, data.qrels) == ({"q1": "what flows"}, {"q1": {"d1": 1}})


def test_of_several_splits_without_a_test_none_is_chosen(tmp_path: Path) -> None:
    flag_embedding(flag_embedding(tmp_path, "dev"), "val")
    with pytest.raises(ValueError, match=r"got dev_queries\.jsonl, val_queries\.jsonl, expected test_queries\.jsonl"):
        load_evaluation_data(tmp_path)
    flag_embedding(tmp_path)  # now there is one called test
    assert load_evaluation_data(tmp_path).qrels == {"q1": {"d1": 1}}  # type: ignore[union-attr]
    (tmp_path / "test_qrels.jsonl").unlink()
    with pytest.raises(ValueError, match=r"got test_queries\.jsonl alone, expected test_qrels\.jsonl beside it"):
        load_evaluation_data(tmp_path)
