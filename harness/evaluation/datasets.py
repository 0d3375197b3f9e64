"""Reads evaluation data from disk. The kind of a data set is recognised by its files and their columns:

| kind | files |
| --- | --- |
| retrieval | folder: corpus.jsonl `_id, title, text`; queries.jsonl `_id, text`; qrels/test.tsv (or the only .tsv) |
| reranking | file: `query, positive, negative` (positive and negative: a text or a list of texts) |
| sts | file: `text1, text2, score` (or sentence1, sentence2) |
| classification | folder: a train and a test file of `text, label` |
| clustering | file: `text, label` |
| pair_classification | file: `text1, text2, label` (or sentence1, sentence2); label 1: the same, 0: not |

Files have any type that `harness.data.source.files` reads. For sts, reranking and pair_classification the path may also
be a folder that contains the file under the name test.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.data.source.files import FILE_SUFFIXES, Row
from harness.data.source.formats import FORMATS
from harness.evaluation.rows import bad_field, first_row, read_lines, read_rows, text_field

EvaluationKind = Literal["retrieval", "reranking", "sts", "classification", "clustering", "pair_classification"]
_PAIR_COLUMNS = tuple(row_format.texts for row_format in FORMATS if row_format.kind == "sts")


@dataclass(frozen=True, slots=True)
class RetrievalData:
    """Queries with relevance judgements, all documents, and the grades `qrels[query id][document id]`."""

    queries: dict[str, str]
    documents: dict[str, str]
    qrels: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class RerankingData:
    """Queries, the documents to rank for each query, and whether each of these documents is relevant."""

    queries: list[str]
    documents: list[list[str]]
    relevant: list[list[bool]]


@dataclass(frozen=True, slots=True)
class STSData:
    """Pairs of texts and their graded similarity."""

    texts1: list[str]
    texts2: list[str]
    scores: list[float]


@dataclass(frozen=True, slots=True)
class ClassificationData:
    """Labelled texts to train a classifier on, and to test it on."""

    train_texts: list[str]
    train_labels: list[str]
    test_texts: list[str]
    test_labels: list[str]


@dataclass(frozen=True, slots=True)
class ClusteringData:
    """Texts and their labels; texts with equal labels belong to one cluster."""

    texts: list[str]
    labels: list[str]


@dataclass(frozen=True, slots=True)
class PairClassificationData:
    """Pairs of texts, and whether they mean the same."""

    texts1: list[str]
    texts2: list[str]
    same: list[bool]


EvaluationData = RetrievalData | RerankingData | STSData | ClassificationData | ClusteringData | PairClassificationData


def load_evaluation_data(path: str | Path) -> EvaluationData:
    """Read one evaluation data set.

    Raises:
        ValueError: the path does not exist, its layout is unknown, or a row is bad (`FILE:LINE: FIELD: got …`).
    """
    kind, files = data_files(path)
    return _LOADERS[kind](*files)


def data_files(path: str | Path) -> tuple[EvaluationKind, tuple[Path, ...]]:
    """The kind of a data set, and the files that it consists of.

    Raises:
        ValueError: the path does not exist, or its layout is unknown.
    """
    path = Path(path)
    if path.is_dir():
        corpus, queries = _find(path, "corpus"), _find(path, "queries")
        if corpus and queries:
            return "retrieval", (corpus, queries, _qrels_file(path))
        train, test = _find(path, "train"), _find(path, "test")
        kind = _kind_of_rows(first_row(test)) if test else None
        if test and kind and kind != "clustering":
            return kind, (test,)
        if train and test:
            return "classification", (train, test)
    elif path.is_file() and path.name.endswith(FILE_SUFFIXES):
        if kind := _kind_of_rows(first_row(path)):
            return kind, (path,)
        raise ValueError(
            f"{path}: got columns {', '.join(first_row(path))}, expected text1, text2, score (sts); text1, text2, "
            "label (pair classification); query, positive, negative (reranking); or text, label (clustering)"
        )
    elif not path.exists():
        raise ValueError(
            f"{path}: got no such file or folder, expected evaluation data; name it relative to --data-root"
        )
    found = ", ".join(sorted(child.name for child in path.iterdir())[:8]) if path.is_dir() else path.name
    raise ValueError(
        f"{path}: got {found or 'an empty folder'}, expected a BEIR folder (corpus.jsonl, queries.jsonl, qrels/), a "
        f"classification folder (train and test: text, label), or a file ending in {', '.join(FILE_SUFFIXES)} (sts: "
        "text1, text2, score; pair classification: text1, text2, label; reranking: query, positive, negative; "
        "clustering: text, label)"
    )


def _kind_of_rows(row: Row) -> EvaluationKind | None:
    """The kind of a data set that consists of one file, from its first row; None if no kind fits."""
    if any(left in row and right in row for left, right in _PAIR_COLUMNS):
        return "pair_classification" if "label" in row and "score" not in row else "sts"
    if all(column in row for column in ("query", "positive", "negative")):
        return "reranking"
    return "clustering" if "text" in row and "label" in row else None


def _load_retrieval(corpus: Path, queries: Path, judgements: Path) -> RetrievalData:
    # Title and text are joined with a space, as mteb does, so that scores can be compared with published ones.
    documents = _by_id(corpus, title=True)
    all_queries = _by_id(queries, title=False)
    qrels = _load_qrels(judgements, all_queries, documents)
    return RetrievalData({name: all_queries[name] for name in qrels}, documents, qrels)


def _by_id(file: Path, title: bool) -> dict[str, str]:
    texts: dict[str, str] = {}
    for line, row in read_rows(file):
        name = row.get("_id")
        if not isinstance(name, str | int) or isinstance(name, bool) or name == "":
            raise bad_field(file, line, "_id", name, "a text or a number")
        if str(name) in texts:
            raise bad_field(file, line, "_id", name, "an id that did not occur before")
        text = text_field(file, line, row, "text", may_be_empty=True)
        if title and row.get("title") is not None:
            text = f"{text_field(file, line, row, 'title', may_be_empty=True)} {text}"
        texts[str(name)] = text.strip()
    if not texts:
        raise ValueError(f"{file}: got no rows, expected at least one")
    return texts


def _qrels_file(folder: Path) -> Path:
    found = sorted((folder / "qrels").glob("*.tsv"))
    test = folder / "qrels" / "test.tsv"
    if test in found:
        return test
    if len(found) != 1:
        names = ", ".join(file.name for file in found) or "no .tsv file"
        raise ValueError(f"{folder / 'qrels'}: got {names}, expected test.tsv or a single .tsv file")
    return found[0]


def _load_qrels(file: Path, queries: dict[str, str], documents: dict[str, str]) -> dict[str, dict[str, int]]:
    qrels: dict[str, dict[str, int]] = {}
    for line, content in read_lines(file):
        fields = content.split("\t")
        if len(fields) != 3:
            raise bad_field(file, line, "columns", len(fields), "3, separated by tabs (query-id, corpus-id, score)")
        query, document, grade = (field.strip() for field in fields)
        if line == 1 and not grade.lstrip("-").isdigit():  # the header
            continue
        if query not in queries:
            raise bad_field(file, line, "query-id", query, "an _id of the queries file")
        if document not in documents:
            raise bad_field(file, line, "corpus-id", document, "an _id of the corpus file")
        try:
            qrels.setdefault(query, {})[document] = int(grade)
        except ValueError:
            raise bad_field(file, line, "score", grade, "a whole number") from None
    if not qrels:
        raise ValueError(f"{file}: got no judgements, expected at least one")
    return qrels


def _load_reranking(file: Path) -> RerankingData:
    # A query without positives or without negatives leaves nothing to rank: it is skipped, as mteb does.
    data = RerankingData([], [], [])
    for line, row in read_rows(file):
        query = text_field(file, line, row, "query")
        positives, negatives = (_texts(file, line, row, side) for side in ("positive", "negative"))
        if positives and negatives:
            data.queries.append(query)
            data.documents.append(positives + negatives)
            data.relevant.append([True] * len(positives) + [False] * len(negatives))
    if not data.queries:
        raise ValueError(f"{file}: got no row with a positive and a negative, expected at least one")
    return data


def _texts(file: Path, line: int, row: Row, field: str) -> list[str]:
    value = row.get(field)
    texts = value if isinstance(value, list) else [value]
    return [text_field(file, line, {field: text}, field) for text in texts]


def _load_sts(file: Path) -> STSData:
    data = STSData([], [], [])
    for line, row in read_rows(file):
        left, right = _pair(file, line, row)
        data.texts1.append(left)
        data.texts2.append(right)
        score = row.get("score")
        if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
            raise bad_field(file, line, "score", score, "a number")
        data.scores.append(float(score))
    if len(data.scores) < 2:
        raise ValueError(f"{file}: got {len(data.scores)} rows, expected at least 2 pairs")
    return data


def _pair(file: Path, line: int, row: Row) -> tuple[str, str]:
    left, right = next((names for names in _PAIR_COLUMNS if names[0] in row), _PAIR_COLUMNS[0])
    return text_field(file, line, row, left), text_field(file, line, row, right)


def _load_pair_classification(file: Path) -> PairClassificationData:
    data = PairClassificationData([], [], [])
    for line, row in read_rows(file):
        left, right = _pair(file, line, row)
        data.texts1.append(left)
        data.texts2.append(right)
        if row.get("label") not in (0, 1):
            raise bad_field(file, line, "label", row.get("label"), "1 (the same) or 0 (not); a degree is called score")
        data.same.append(bool(row["label"]))
    if len(set(data.same)) < 2:
        raise ValueError(f"{file}: got pairs of one label only, expected 0 and 1")
    return data


def _load_classification(train: Path, test: Path) -> ClassificationData:
    train_texts, train_labels = _load_labelled(train)
    test_texts, test_labels = _load_labelled(test)
    if len(set(train_labels)) < 2:
        raise ValueError(f"{train}: got 1 label, expected at least 2 to tell apart")
    return ClassificationData(train_texts, train_labels, test_texts, test_labels)


def _load_clustering(file: Path) -> ClusteringData:
    texts, labels = _load_labelled(file)
    if len(set(labels)) < 2:
        raise ValueError(f"{file}: got 1 label, expected at least 2 to tell apart")
    return ClusteringData(texts, labels)


def _load_labelled(file: Path) -> tuple[list[str], list[str]]:
    texts: list[str] = []
    labels: list[str] = []
    for line, row in read_rows(file):
        texts.append(text_field(file, line, row, "text"))
        label = row.get("label")
        if not isinstance(label, str | int) or label == "":
            raise bad_field(file, line, "label", label, "a text or a whole number")
        labels.append(str(label))
    if not texts:
        raise ValueError(f"{file}: got no rows, expected at least one")
    return texts, labels


_LOADERS: dict[EvaluationKind, Callable[..., EvaluationData]] = {
    "retrieval": _load_retrieval,
    "reranking": _load_reranking,
    "sts": _load_sts,
    "classification": _load_classification,
    "clustering": _load_clustering,
    "pair_classification": _load_pair_classification,
}


def _find(folder: Path, stem: str) -> Path | None:
    """The file with this name and any suffix that can be read; None if there is none."""
    places = (folder / f"{stem}{suffix}" for suffix in FILE_SUFFIXES)
    return next((place for place in places if place.is_file()), None)
