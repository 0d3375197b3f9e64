"""Evaluation data: how the kind of a data set is recognised, and the message for a bad row."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.evaluation.datasets import data_files, load_evaluation_data
from harness.evaluation.kinds.classification import ClassificationData
from harness.evaluation.kinds.clustering import ClusteringData
from harness.evaluation.kinds.pair_classification import PairClassificationData
from harness.evaluation.kinds.reranking import RerankingData
from harness.evaluation.kinds.retrieval import RetrievalData
from harness.evaluation.kinds.sts import STSData
from harness.evaluation.kinds.table import KINDS


def write(file: Path, *rows: Any) -> Path:
    """Write rows as JSON lines, or to a .parquet file; text and bytes are written unchanged."""
    lines = [
        row if isinstance(row, bytes) else (row if isinstance(row, str) else json.dumps(row)).encode() for row in rows
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    if file.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(rows)), file)
        return file
    content = b"\n".join(lines) + b"\n"
    file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    return file


def beir(folder: Path) -> Path:
    write(
        folder / "corpus.jsonl",
        {"_id": "d1", "title": "Trees", "text": "They grow."},
        {"_id": "d2", "title": "", "text": "Stones."},
        {"_id": 3, "text": "Rivers."},
    )
    write(folder / "queries.jsonl", {"_id": "q1", "text": "what grows"}, {"_id": "q2", "text": "what flows"})
    write(folder / "qrels" / "test.tsv", "query-id\tcorpus-id\tscore", "q2\t3\t2", "q2\td1\t0")
    write(folder / "qrels" / "train.tsv", "query-id\tcorpus-id\tscore", "q1\td1\t1")
    return folder


def test_a_beir_folder_gives_the_judged_queries_and_title_and_text_as_mteb_joins_them(tmp_path: Path) -> None:
    data = load_evaluation_data(beir(tmp_path))
    assert isinstance(data, RetrievalData)
    assert (data.queries, data.qrels) == ({"q2": "what flows"}, {"q2": {"3": 2, "d1": 0}})
    documents = data.documents
    texts = documents.distinct_texts(np.arange(documents.num_texts))
    assert documents.ids(np.arange(3)) == ["d2", "d1", "3"]  # descending, as trec_eval ranks equal scores
    assert texts == ["Stones.", "Trees They grow.", "Rivers."]


def test_the_only_judgement_file_is_taken_whatever_its_name_and_two_without_test_are_an_error(tmp_path: Path) -> None:
    folder = beir(tmp_path)
    (folder / "qrels" / "test.tsv").unlink()
    data = load_evaluation_data(folder)
    assert isinstance(data, RetrievalData)
    assert data.qrels == {"q1": {"d1": 1}}
    write(folder / "qrels" / "dev.tsv", "q1\td1\t1")
    with pytest.raises(ValueError, match=r"dev\.tsv, train\.tsv, expected test\.tsv"):
        load_evaluation_data(folder)


def test_judgements_without_a_header_lose_no_row(tmp_path: Path) -> None:
    write(beir(tmp_path) / "qrels" / "test.tsv", "q1\td1\t1", "q2\td2\t1")
    data = load_evaluation_data(tmp_path)
    assert isinstance(data, RetrievalData)
    assert data.qrels == {"q1": {"d1": 1}, "q2": {"d2": 1}}


@pytest.mark.parametrize("columns", [("text1", "text2"), ("sentence1", "sentence2")])
@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".json", ".json.gz", ".parquet"])
def test_sts_is_told_by_its_columns_as_a_file_or_as_the_test_file_of_a_folder(
    tmp_path: Path, columns: tuple[str, str], suffix: str
) -> None:
    left, right = columns
    pairs = [{left: "a", right: "b", "score": 4}, {left: "c", right: "d", "score": 0.5}]
    file = write(tmp_path / f"test{suffix}", *pairs)
    expected = STSData(["a", "c"], ["b", "d"], [4.0, 0.5])
    assert load_evaluation_data(file) == expected
    assert load_evaluation_data(tmp_path) == expected


def test_a_classification_folder_has_a_train_and_a_test_file(tmp_path: Path) -> None:
    write(tmp_path / "train.jsonl", {"text": "a", "label": "x"}, {"text": "b", "label": 1})
    write(tmp_path / "test.jsonl.gz", {"text": "c", "label": "x"})
    assert load_evaluation_data(tmp_path) == ClassificationData(["a", "b"], ["x", "1"], ["c"], ["x"])


def test_a_single_file_of_labelled_texts_is_to_be_clustered(tmp_path: Path) -> None:
    file = write(tmp_path / "test.jsonl", {"text": "a", "label": "x"}, {"text": "b", "label": 1})
    assert load_evaluation_data(file) == ClusteringData(["a", "b"], ["x", "1"])
    with pytest.raises(ValueError, match="expected a BEIR folder"):  # a classification whose training file is missing
        load_evaluation_data(tmp_path)
    with pytest.raises(ValueError, match="got 1 label, expected at least 2"):
        load_evaluation_data(write(file, {"text": "a", "label": "x"}))


@pytest.mark.parametrize("columns", [("text1", "text2"), ("sentence1", "sentence2")])
def test_pairs_with_a_label_are_to_be_classified_and_pairs_with_a_score_are_sts(
    tmp_path: Path, columns: tuple[str, str]
) -> None:
    left, right = columns
    rows = [{left: "a", right: "b", "label": 1}, {left: "c", right: "d", "label": 0}]
    file = write(tmp_path / "test.jsonl", *rows)
    assert load_evaluation_data(file) == load_evaluation_data(tmp_path)
    assert load_evaluation_data(file) == PairClassificationData(["a", "c"], ["b", "d"], [True, False])
    scored = [{left: "a", right: "b", "score": 1.5}, {left: "c", right: "d", "score": 0}]
    assert isinstance(load_evaluation_data(write(file, *scored)), STSData)
    both = load_evaluation_data(write(file, *({**row, "score": row["label"]} for row in rows)))
    assert isinstance(both, STSData)
    assert both.counts  # the label is listed as not used


def test_a_row_to_rerank_has_positives_and_negatives_or_is_left_out(tmp_path: Path) -> None:
    file = write(
        tmp_path / "test.jsonl.gz",
        {"query": "q", "positive": ["a", "b"], "negative": ["c"]},
        {"query": "r", "positive": "a", "negative": []},
        {"query": "s", "positive": "d", "negative": "e"},
    )
    expected = RerankingData(["q", "s"], [["a", "b", "c"], ["d", "e"]], [[True, True, False], [True, False]])
    assert load_evaluation_data(file) == load_evaluation_data(tmp_path) == expected
    with pytest.raises(ValueError, match="got no row with a positive and a negative"):
        load_evaluation_data(write(file, {"query": "r", "positive": "a", "negative": []}))


def test_mtebs_own_names_of_columns_are_read(tmp_path: Path) -> None:
    pairs = [{"sentence1": "a", "sentence2": "b", "labels": 1.0}, {"sentence1": "c", "sentence2": "d", "labels": "0"}]
    assert load_evaluation_data(write(tmp_path / "pairs.jsonl", *pairs)).same == [True, False]
    groups = [{"sentences": "a", "labels": "x"}, {"sentences": "b", "labels": 1}]
    assert load_evaluation_data(write(tmp_path / "groups.jsonl", *groups)) == ClusteringData(["a", "b"], ["x", "1"])


LABELLED_PAIR = {"text1": "a", "text2": "b", "label": 1}


@pytest.mark.parametrize(
    ("first", "row", "message"),
    [
        (LABELLED_PAIR, {**LABELLED_PAIR, "label": "yes"}, r"label: got 'yes', expected 1 \(the same\) or 0"),
        (LABELLED_PAIR, {**LABELLED_PAIR, "label": "2"}, r"label: got '2', expected 1 \(the same\) or 0"),
        (LABELLED_PAIR, {**LABELLED_PAIR, "label": 2}, r"label: got 2, expected 1 \(the same\) or 0"),
        (LABELLED_PAIR, {"text1": "a", "text2": "b"}, r"label: got no such field, expected 1 \(the same\) or 0"),
        (LABELLED_PAIR, {**LABELLED_PAIR, "text2": ""}, "text2: got '', expected a text, not empty"),
        (
            {"query": "q", "positive": "a", "negative": "b"},
            {"query": "q", "positive": ["a", 5], "negative": "b"},
            r"positive\[1\]: got int 5, expected a text",
        ),
        ({"text": "a", "label": "x"}, {"text": "b", "label": ""}, "label: got '', expected a text or a whole number"),
    ],
)
def test_a_bad_row_of_the_kinds_with_one_file_stops_with_line_and_field(
    tmp_path: Path, first: Any, row: Any, message: str
) -> None:
    file = write(tmp_path / "test.jsonl", first, row)
    with pytest.raises(ValueError, match=f"^{file}:2: {message}"):
        load_evaluation_data(file)


def test_pairs_of_one_label_cannot_be_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got pairs of one label only, expected 0 and 1"):
        load_evaluation_data(write(tmp_path / "test.jsonl", LABELLED_PAIR, LABELLED_PAIR))


def test_an_unknown_layout_says_what_was_found_and_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"absent: got no such file or folder.*--data-root"):
        load_evaluation_data(tmp_path / "absent")
    with pytest.raises(ValueError, match="got an empty folder, expected a BEIR folder"):
        load_evaluation_data(tmp_path)
    write(tmp_path / "notes.txt", "x")
    for path in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(ValueError, match=r"got notes\.txt, expected a BEIR folder"):
            load_evaluation_data(path)
    write(tmp_path / "other.jsonl", {"text": "a", "class": "x"})
    with pytest.raises(ValueError, match=r"got columns text, class, expected text1.*text, label \(clustering\)"):
        load_evaluation_data(tmp_path / "other.jsonl")


def test_every_kind_is_described_where_no_kind_fits(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="got an empty folder") as caught:
        load_evaluation_data(tmp_path)
    for name, kind in KINDS.items():
        assert kind.folder or kind.columns, f"{name}: give its kind a `folder`, or `columns` if it is a single file"
        assert (kind.folder or kind.columns) in str(caught.value)


PAIR = {"text1": "a", "text2": "b", "score": 1}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**PAIR, "score": "high"}, "score: got str 'high', expected a number"),
        ({**PAIR, "score": True}, "score: got bool True, expected a number"),
        ('{"text1": "a", "text2": "b", "score": NaN}', r"score: got float nan, expected a finite number \(float32\)"),
        (
            '{"text1": "a", "text2": "b", "score": -Infinity}',
            r"score: got float -inf, expected a finite number \(float32\)",
        ),
        ({"text1": "a", "text2": "b"}, "score: got no such field, expected a number"),
        ({**PAIR, "text2": " "}, "text2: got str ' ', expected a text that is not empty"),
        ({**PAIR, "text1": 5}, "text1: got int 5, expected a text"),
        ({"text1": "a", "score": 1}, "text2: got no such field, expected a text"),
        ("[1, 2]", "row: got a JSON list, expected one JSON object per line"),
        ('{"text1": "a", ', r"row: got broken JSON \(.* at column .*\), expected one JSON object per line"),
        (b'{"text1": "\xff"}', "row: got byte 0xff at byte 12 of the line, expected UTF-8"),
    ],
)
def test_a_bad_row_stops_with_file_line_and_field(tmp_path: Path, row: Any, message: str) -> None:
    for name in ("test.jsonl", "test.jsonl.gz"):
        file = write(tmp_path / name, PAIR, "", row)
        with pytest.raises(ValueError, match=f"^{file}:3: {message}$"):
            load_evaluation_data(file)


@pytest.mark.parametrize(
    ("file", "row", "message"),
    [
        ("corpus.jsonl", {"_id": "d1", "text": "again"}, r"corpus.jsonl:1: _id: got 'd1', expected an id that did not"),
        ("corpus.jsonl", {"text": "x"}, "corpus.jsonl:1: _id: got no such field, expected a text or a number"),
        ("queries.jsonl", {"_id": "q9"}, "queries.jsonl:1: text: got no such field, expected a text"),
        ("qrels/test.tsv", "q7\td1\t1", "test.tsv: got 1 judgements of queries that the queries file lacks"),
        ("qrels/test.tsv", "q1,d1,1", r"test.tsv:1: columns: got 1, expected 3 \(query-id corpus-id score\) or 4"),
        (
            "qrels/test.tsv",
            "query-id\tcorpus-id\tscore\nq1\td1\thigh",
            "test.tsv:2: score: got 'high', expected a whole",
        ),
    ],
)
def test_a_bad_beir_row_stops_with_file_line_and_field(tmp_path: Path, file: str, row: Any, message: str) -> None:
    folder = beir(tmp_path)
    rest = (folder / file).read_text().splitlines() if file != "qrels/test.tsv" else []
    write(folder / file, row, *rest)
    if "an id that did not" in message:
        message = message.replace(":1:", ":2:")
    with pytest.raises(ValueError, match=message):
        load_evaluation_data(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: write(folder / "train.jsonl", {"text": "a", "label": "x"}), "got 1 label, expected at least 2"),
        (lambda folder: write(folder / "train.jsonl", ""), r"train\.jsonl: got no rows"),
        (lambda folder: write(folder / "train.jsonl", {"text": "a", "label": None}), "train.jsonl:1: label: got null"),
    ],
)
def test_a_bad_classification_folder_is_an_error(tmp_path: Path, change: Callable[[Path], Path], message: str) -> None:
    write(tmp_path / "test.jsonl", {"text": "c", "label": "x"})
    change(tmp_path)
    with pytest.raises(ValueError, match=message):
        load_evaluation_data(tmp_path)


def test_a_truncated_gzip_file_is_an_error(tmp_path: Path) -> None:
    file = write(tmp_path / "test.jsonl.gz", *[{**PAIR, "text1": f"a{i * 7919}"} for i in range(2000)])
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"test\.jsonl\.gz:\d+: file: got EOFError.*, expected a whole, readable file"):
        load_evaluation_data(file)


def test_rows_of_other_projects_are_reranked_as_they_are_trained_on(tmp_path: Path) -> None:
    passages = {"positive_passages": [{"title": "t", "text": "a"}], "negative_passages": [{"title": "u", "text": "b"}]}
    data = load_evaluation_data(write(tmp_path / "tevatron.jsonl", {"query_id": "1", "query": "q", **passages}))
    assert data == RerankingData(["q"], [["t a", "u b"]], [[True, False]])


def test_a_folder_saved_by_datasets_is_refused_with_what_to_write(tmp_path: Path) -> None:
    """Training reads such a folder; the message listed its arrow files and twenty suffixes."""
    from datasets import Dataset

    Dataset.from_list([{"sentence1": "a", "sentence2": "b", "score": 1.0}]).save_to_disk(tmp_path / "saved")
    with pytest.raises(ValueError, match=r'got a folder saved by datasets, .*to_parquet\("test.parquet"\)'):
        data_files(tmp_path / "saved")
