"""The data of `benchmarks.negatives`: small, disjoint where it matters, the same at every start.

    DATA_ROOT/…  →  FOLDER/train/SET.jsonl       training queries with all their positives
                    FOLDER/corpus/SET.jsonl      what negatives are mined from
                    FOLDER/retrieval/SET/        held-out queries, judgements and documents (BEIR)

No document that is relevant to a test query of the source, sampled or not, can become a negative.
"""

from __future__ import annotations

import csv
import gzip
import json
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

# Where each set's training pairs lie; its held-out data lie in retrieval/SET.
TRAIN_FILES = {
    "stackfaq_en": "train/stackfaq_en.train.jsonl.gz",
    "cranfield_en": "train/cranfield_en.train.jsonl.gz",
    "cmrc2018_zh": "train/cmrc2018_zh.train.jsonl.gz",
    "alpaca_en": "prompt_response/alpaca_en/train.jsonl.gz",
}
MINED_IN_TRAINING_ROWS = ("alpaca_en",)  # its corpus holds held-out answers only


@dataclass(frozen=True, slots=True)
class DataSize:
    """How much of each set is used; None: all of it."""

    rows: int | None  # training queries
    corpus: int | None  # documents that negatives are mined from, beside the positives of the training queries
    test_queries: int | None
    test_documents: int | None  # at least all those judged relevant to the queries


def write_data(root: Path, folder: Path, size: DataSize) -> dict[str, dict[str, int]]:
    """Write every set's files; returns how many rows each has.

    Raises:
        ValueError: a file of the data is missing.
    """
    return {name: _write_set(root, folder, name, size) for name in TRAIN_FILES}


def _write_set(root: Path, folder: Path, name: str, size: DataSize) -> dict[str, int]:
    source = root / "retrieval" / name
    documents = {row["_id"]: _whole_text(row) for row in _read(source / "corpus.jsonl")}
    queries = {row["_id"]: row["text"] for row in _read(source / "queries.jsonl")}
    relevant = _relevant(source / "qrels" / "test.tsv")
    every_row = [_training_row(row) for row in _read(root / TRAIN_FILES[name])]

    rows = _sample(every_row, size.rows, f"{name} rows")
    positives = list(dict.fromkeys(text for row in rows for text in row["positive"]))
    held_out = {documents[key] for found in relevant.values() for key in found}
    offered = documents.values() if name not in MINED_IN_TRAINING_ROWS else (row["positive"][0] for row in every_row)
    known = {*positives, *held_out}
    others = [text for text in dict.fromkeys(offered) if text not in known]
    corpus = [text for text in positives if text not in held_out] + _sample(others, size.corpus, f"{name} corpus")
    _write(folder / "train" / f"{name}.jsonl", rows)
    _write(folder / "corpus" / f"{name}.jsonl", ({"text": text} for text in corpus))

    query_ids = _sample(sorted(relevant), size.test_queries, f"{name} queries")
    judged = list(dict.fromkeys(key for query in query_ids for key in relevant[query]))
    left = [key for key in documents if key not in set(judged)]
    room = None if size.test_documents is None else max(0, size.test_documents - len(judged))
    document_ids = judged + _sample(left, room, f"{name} documents")
    test = folder / "retrieval" / name
    _write(test / "queries.jsonl", ({"_id": key, "text": queries[key]} for key in query_ids))
    _write(test / "corpus.jsonl", ({"_id": key, "title": "", "text": documents[key]} for key in document_ids))
    _write_judgements(test / "qrels" / "test.tsv", query_ids, relevant)
    return {
        "training queries": len(rows),
        "documents mined": len(corpus),
        "test queries": len(query_ids),
        "test documents": len(document_ids),
    }


def _whole_text(row: dict[str, str]) -> str:
    """A document as the training rows write it, so that a positive is equal to its text in the corpus."""
    return f"{row['title']}\n{row['text']}" if row["title"] else row["text"]


def _training_row(row: dict[str, Any]) -> dict[str, Any]:
    positive = row["positive"]
    return {"query": row["query"], "positive": [positive] if isinstance(positive, str) else positive, "negative": []}


def _relevant(file: Path) -> dict[str, dict[str, int]]:
    """query id → document id → grade, grades above 0."""
    relevant: dict[str, dict[str, int]] = {}
    with _existing(file).open(encoding="utf-8", newline="") as stream:
        for row in csv.DictReader(stream, delimiter="\t"):
            if int(row["score"]) > 0:
                relevant.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    return relevant


def _write_judgements(file: Path, query_ids: Sequence[str], relevant: dict[str, dict[str, int]]) -> None:
    lines = [f"{query}\t{key}\t{grade}" for query in query_ids for key, grade in relevant[query].items()]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("\n".join(["query-id\tcorpus-id\tscore", *lines]) + "\n", encoding="utf-8")


def _sample(items: Sequence[T], count: int | None, what: str) -> list[T]:
    """`count` of the items in a random order that is the same at every start; all of them as they stand for None."""
    return list(items) if count is None else random.Random(what).sample(items, min(count, len(items)))


def _read(file: Path) -> list[dict[str, Any]]:
    data = _existing(file).read_bytes()
    lines = (gzip.decompress(data) if file.suffix == ".gz" else data).decode("utf-8")
    return [json.loads(line) for line in lines.split("\n") if line]


def _existing(file: Path) -> Path:
    if not file.is_file():
        raise ValueError(
            f"--data-root: got no file {file}, expected one; name the folder that holds train/ and retrieval/"
        )
    return file


def _write(file: Path, rows: Iterable[dict[str, Any]]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
