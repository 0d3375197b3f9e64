"""Evaluation data on disk, told apart by content: a BEIR folder, an STS file, a classification folder.

| kind | what lies there |
| --- | --- |
| retrieval | folder: corpus.jsonl `_id, title, text`; queries.jsonl `_id, text`; qrels/test.tsv (or the only .tsv) |
| sts | file: `text1, text2, score` (or sentence1, sentence2); or a folder with such a test file |
| classification | folder: a train and a test file of `text, label` |

Files are .jsonl or .jsonl.gz.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.types import TaskKind

_SUFFIXES = (".jsonl", ".jsonl.gz")
_STS_COLUMNS = (("text1", "text2"), ("sentence1", "sentence2"))


@dataclass(frozen=True, slots=True)
class RetrievalData:
    """Judged queries, documents, and relevance grades `qrels[query id][document id]`."""

    queries: dict[str, str]
    documents: dict[str, str]
    qrels: dict[str, dict[str, int]]


@dataclass(frozen=True, slots=True)
class STSData:
    """Pairs of texts and their graded similarity."""

    texts1: list[str]
    texts2: list[str]
    scores: list[float]


@dataclass(frozen=True, slots=True)
class ClassificationData:
    """Labelled texts to fit a classifier on, and to test it on."""

    train_texts: list[str]
    train_labels: list[str]
    test_texts: list[str]
    test_labels: list[str]


EvaluationData = RetrievalData | STSData | ClassificationData


def load_evaluation_data(path: str | Path) -> EvaluationData:
    """Read one evaluation data set.

    Raises:
        ValueError: nothing is there, its layout is not known, or a row is bad (`FILE:LINE: FIELD: got …, expected …`).
    """
    kind, files = data_files(path)
    return _LOADERS[kind](*files)


def data_files(path: str | Path) -> tuple[TaskKind, tuple[Path, ...]]:
    """The kind of a data set and the files it is read from.

    Raises:
        ValueError: nothing is there, or its layout is not known.
    """
    path = Path(path)
    if path.is_dir():
        corpus, queries = _find(path, "corpus"), _find(path, "queries")
        if corpus and queries:
            return "retrieval", (corpus, queries, _qrels_file(path))
        train, test = _find(path, "train"), _find(path, "test")
        if test and _is_sts(_first_row(test)):
            return "sts", (test,)
        if train and test:
            return "classification", (train, test)
    elif path.is_file() and path.name.endswith(_SUFFIXES):
        if _is_sts(_first_row(path)):
            return "sts", (path,)
        raise ValueError(
            f"{path}: got columns {', '.join(_first_row(path))}, expected text1, text2, score; "
            "for classification give the folder that holds the train and test files"
        )
    elif not path.exists():
        raise ValueError(
            f"{path}: got no such file or folder, expected evaluation data; name it relative to --data-root"
        )
    found = ", ".join(sorted(child.name for child in path.iterdir())[:8]) if path.is_dir() else path.name
    raise ValueError(
        f"{path}: got {found or 'an empty folder'}, expected a BEIR folder (corpus.jsonl, queries.jsonl, qrels/), an "
        "STS file (.jsonl or .jsonl.gz: text1, text2, score) or a classification folder (train and test: text, label)"
    )


def _load_retrieval(corpus: Path, queries: Path, judgements: Path) -> RetrievalData:
    # title and text are joined with a space, as mteb does, so that figures can be compared with published ones
    documents = _by_id(corpus, title=True)
    all_queries = _by_id(queries, title=False)
    qrels = _load_qrels(judgements, all_queries, documents)
    return RetrievalData({name: all_queries[name] for name in qrels}, documents, qrels)


def _by_id(file: Path, title: bool) -> dict[str, str]:
    texts: dict[str, str] = {}
    for line, row in _rows(file):
        name = row.get("_id")
        if not isinstance(name, str | int) or isinstance(name, bool) or name == "":
            raise _bad(file, line, "_id", name, "a text or a number")
        if str(name) in texts:
            raise _bad(file, line, "_id", name, "an id that did not occur before")
        text = _text(file, line, row, "text", empty=True)
        if title and row.get("title") is not None:
            text = f"{_text(file, line, row, 'title', empty=True)} {text}"
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
    for line, content in _lines(file):
        fields = content.split("\t")
        if len(fields) != 3:
            raise _bad(file, line, "columns", len(fields), "3, separated by tabs (query-id, corpus-id, score)")
        query, document, grade = (field.strip() for field in fields)
        if line == 1 and not grade.lstrip("-").isdigit():  # the header
            continue
        if query not in queries:
            raise _bad(file, line, "query-id", query, "an _id of the queries file")
        if document not in documents:
            raise _bad(file, line, "corpus-id", document, "an _id of the corpus file")
        try:
            qrels.setdefault(query, {})[document] = int(grade)
        except ValueError:
            raise _bad(file, line, "score", grade, "a whole number") from None
    if not qrels:
        raise ValueError(f"{file}: got no judgements, expected at least one")
    return qrels


def _is_sts(row: dict[str, Any]) -> bool:
    return any(left in row and right in row for left, right in _STS_COLUMNS)


def _load_sts(file: Path) -> STSData:
    data = STSData([], [], [])
    for line, row in _rows(file):
        left, right = next((names for names in _STS_COLUMNS if names[0] in row), _STS_COLUMNS[0])
        data.texts1.append(_text(file, line, row, left))
        data.texts2.append(_text(file, line, row, right))
        score = row.get("score")
        if isinstance(score, bool) or not isinstance(score, int | float) or not math.isfinite(score):
            raise _bad(file, line, "score", score, "a number")
        data.scores.append(float(score))
    if len(data.scores) < 2:
        raise ValueError(f"{file}: got {len(data.scores)} rows, expected at least 2 pairs")
    return data


def _load_classification(train: Path, test: Path) -> ClassificationData:
    columns: list[list[str]] = []
    for file in (train, test):
        texts: list[str] = []
        labels: list[str] = []
        for line, row in _rows(file):
            texts.append(_text(file, line, row, "text"))
            label = row.get("label")
            if not isinstance(label, str | int) or label == "":
                raise _bad(file, line, "label", label, "a text or a whole number")
            labels.append(str(label))
        if not texts:
            raise ValueError(f"{file}: got no rows, expected at least one")
        columns += [texts, labels]
    if len(set(columns[1])) < 2:
        raise ValueError(f"{train}: got 1 label, expected at least 2 to tell apart")
    return ClassificationData(*columns)


_LOADERS: dict[TaskKind, Callable[..., EvaluationData]] = {
    "retrieval": _load_retrieval,
    "sts": _load_sts,
    "classification": _load_classification,
}


def _find(folder: Path, stem: str) -> Path | None:
    return next((folder / f"{stem}{end}" for end in _SUFFIXES if (folder / f"{stem}{end}").is_file()), None)


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    """(1-based number, content) of every line that is not blank."""
    number = 0
    with gzip.open(file, "rb") if file.name.endswith(".gz") else file.open("rb") as stream:
        try:
            for number, line in enumerate(stream, start=1):
                content = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                if content.strip():
                    yield number, content
        except UnicodeDecodeError as error:
            raise _bad(file, number, "text", f"byte {error.object[error.start]:#x}", "UTF-8") from None
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{file}:{number + 1}: file: got {error}, expected a whole gzip file") from None


def _rows(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, content in _lines(file):
        try:
            row = json.loads(content)
        except json.JSONDecodeError as error:
            raise _bad(file, number, "row", f"{error.msg} at column {error.colno}", "JSON") from None
        if not isinstance(row, dict):
            raise _bad(file, number, "row", type(row).__name__, "a JSON object")
        yield number, row


def _first_row(file: Path) -> dict[str, Any]:
    return next((row for _, row in _rows(file)), {})


def _text(file: Path, line: int, row: dict[str, Any], field: str, empty: bool = False) -> str:
    value = row.get(field)
    if not isinstance(value, str) or not (empty or value.strip()):
        raise _bad(file, line, field, value if field in row else "nothing", "a text" if empty else "a text, not empty")
    return value


def _bad(file: Path, line: int, field: str, got: object, expected: str) -> ValueError:
    shown = got if isinstance(got, str) else repr(got)
    return ValueError(f"{file}:{line}: {field}: got {shown[:80]!s}, expected {expected}")
