"""Training and evaluation data for experiments of many runs: samples of the source files, equal at every start.

    DATA_ROOT/…  →  FOLDER/train/SET.jsonl       training queries with all their positives
                    FOLDER/corpus/SET.jsonl      the documents from which negatives are mined
                    FOLDER/retrieval/SET/        held-out queries, judgements and documents (BEIR)

A document that is relevant to any test query of the source never becomes a negative, even if that query is not in the
sample.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RetrievalSize:
    """How many rows of a data set are used. None means all rows."""

    rows: int | None  # training queries
    corpus: int | None  # documents to mine from, in addition to the positives of the training queries
    test_queries: int | None
    test_documents: int | None  # all documents relevant to the sampled queries are kept, even if there are more


def write_retrieval_set(
    root: Path, folder: Path, name: str, train_file: str, size: RetrievalSize, *, mine_in_rows: bool = False
) -> dict[str, int]:
    """Write the files of one data set and return the number of rows in each.

    mine_in_rows: mine negatives from the positives of all training rows, not from the data set's corpus.

    Raises:
        ValueError: a file of the data is missing.
    """
    source = root / "retrieval" / name
    documents, queries = read_documents(source), read_queries(source)
    relevant = relevant_documents(source)
    every_row = [_training_row(row) for row in read_rows(root / train_file)]

    rows = sample(every_row, size.rows, f"{name} rows")
    positives = list(dict.fromkeys(text for row in rows for text in row["positive"]))
    held_out = {documents[key] for grades in relevant.values() for key in grades}
    candidate_texts = (row["positive"][0] for row in every_row) if mine_in_rows else documents.values()
    positives_and_held_out = {*positives, *held_out}
    other_texts = [text for text in dict.fromkeys(candidate_texts) if text not in positives_and_held_out]
    corpus = [text for text in positives if text not in held_out] + sample(other_texts, size.corpus, f"{name} corpus")
    write_rows(folder / "train" / f"{name}.jsonl", rows)
    write_rows(folder / "corpus" / f"{name}.jsonl", ({"text": text} for text in corpus))

    query_ids = sample(sorted(relevant), size.test_queries, f"{name} queries")
    judged = list(dict.fromkeys(key for query in query_ids for key in relevant[query]))
    not_judged = [key for key in documents if key not in set(judged)]
    num_not_judged = None if size.test_documents is None else max(0, size.test_documents - len(judged))
    document_ids = judged + sample(not_judged, num_not_judged, f"{name} documents")
    asked, offered = {key: queries[key] for key in query_ids}, {key: documents[key] for key in document_ids}
    write_beir(folder / "retrieval" / name, asked, offered, {key: relevant[key] for key in query_ids})
    return {
        "training queries": len(rows),
        "documents mined": len(corpus),
        "test queries": len(query_ids),
        "test documents": len(document_ids),
    }


def read_documents(folder: Path) -> dict[str, str]:
    """Read a BEIR folder's documents: id → text. Title and text are joined as in the training rows, so that a document
    in both places is the same string.
    """
    rows = read_rows(folder / "corpus.jsonl")
    return {row["_id"]: f"{row['title']}\n{row['text']}" if row["title"] else row["text"] for row in rows}


def read_queries(folder: Path) -> dict[str, str]:
    """Read a BEIR folder's queries of all splits: id → text."""
    return {row["_id"]: row["text"] for row in read_rows(folder / "queries.jsonl")}


def relevant_documents(folder: Path) -> dict[str, dict[str, int]]:
    """Read the test judgements of a BEIR folder: query id → document id → grade. Grades of 0 are left out."""
    relevant: dict[str, dict[str, int]] = {}
    with _existing(folder / "qrels" / "test.tsv").open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            if int(row["score"]) > 0:
                relevant.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    return relevant


def sample(items: Sequence[T], count: int | None, what: str) -> list[T]:
    """Draw `count` items in random order, seeded by `what`. If `count` is None, return all items in their order."""
    return list(items) if count is None else random.Random(what).sample(items, min(count, len(items)))


def read_rows(file: Path) -> list[dict[str, Any]]:
    """Read the rows of a .jsonl or .jsonl.gz file.

    Raises:
        ValueError: there is no such file.
    """
    data = _existing(file).read_bytes()
    lines = (gzip.decompress(data) if file.suffix == ".gz" else data).decode("utf-8")
    return [json.loads(line) for line in lines.split("\n") if line]


def write_rows(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows to a .jsonl file and create its folder."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def write_beir(
    folder: Path, queries: Mapping[str, str], documents: Mapping[str, str], relevant: Mapping[str, Mapping[str, int]]
) -> None:
    """Write a BEIR folder. relevant: query id → document id → grade."""
    write_rows(folder / "queries.jsonl", ({"_id": key, "text": text} for key, text in queries.items()))
    write_rows(folder / "corpus.jsonl", ({"_id": key, "title": "", "text": text} for key, text in documents.items()))
    lines = [f"{query}\t{key}\t{grade}" for query, grades in relevant.items() for key, grade in grades.items()]
    file = folder / "qrels" / "test.tsv"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n", encoding="utf-8")


def per_label(
    rows: Sequence[dict[str, Any]], labels: Sequence[str], count: int | None, what: str = "of"
) -> list[dict[str, Any]]:
    """`count` rows of each label, drawn as by `sample`, seeded by `what` and the label."""
    return [
        row
        for label in labels
        for row in sample([row for row in rows if row["label"] == label], count, f"{what} {label}")
    ]


def _training_row(row: dict[str, Any]) -> dict[str, Any]:
    positive = row["positive"]
    return {"query": row["query"], "positive": [positive] if isinstance(positive, str) else positive, "negative": []}


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise ValueError(
            f"--data-root: got no file {file}, expected one; name the folder that holds train/ and retrieval/"
        )
    return file
