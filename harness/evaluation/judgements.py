"""Reads relevance judgements (qrels), as BEIR, TREC and mteb write them.

- .tsv, .txt, .qrels (also .gz): `query-id corpus-id score`, or TREC's `query-id 0 corpus-id score`; tabs or blanks
- any other file that the harness reads: the columns `query-id, corpus-id, score`, or others of the names below

A first line of column names may be there or not. It is known by the names, so a first judgement is never taken for it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.data.source.files import FILE_SUFFIXES
from harness.evaluation.counts import Counts, only_nonzero
from harness.evaluation.rows import bad_field, read_lines, read_rows

TEXT_SUFFIXES = (".tsv", ".txt", ".qrels", ".tsv.gz", ".txt.gz", ".qrels.gz")
Qrels = dict[str, dict[str, int]]  # query id → document id → grade
KnownDocuments = Callable[[Collection[str]], Collection[str]]  # ids of documents → those that the corpus has
_COLUMNS = ("query-id", "corpus-id", "score")
_LARGEST_GRADE = 2**31 - 1
# Names of the columns, without hyphens, underscores, blanks and capitals.
_NAMES = {
    "query-id": {"queryid", "qid", "query", "topic", "topicid"},
    "corpus-id": {"corpusid", "docid", "documentid", "docno", "did", "passageid", "pid", "doc", "document"},
    "score": {"score", "relevance", "rel", "grade", "label", "judgement", "judgment"},
    "unused": {"iteration", "iter", "q0", "0", "unused"},
}


def judgements_file(folder: Path) -> Path:
    """The judgements of a BEIR folder: qrels/test.*, the only file of qrels/, or qrels.* beside the corpus.

    Raises:
        ValueError: there is no such file, or several without one called test.
    """
    suffixes = (*TEXT_SUFFIXES, *FILE_SUFFIXES)
    place = folder / "qrels"
    if not place.is_dir():
        beside = [folder / f"qrels{suffix}" for suffix in suffixes if (folder / f"qrels{suffix}").is_file()]
        if beside:
            return beside[0]
    found = sorted(file for file in place.glob("*") if file.name.endswith(suffixes))
    tests = [place / f"test{suffix}" for suffix in suffixes if place / f"test{suffix}" in found]
    if tests or len(found) == 1:
        return (tests or found)[0]
    names = ", ".join(file.name for file in found) or "no judgements"
    raise ValueError(f"{place}: got {names}, expected test.tsv or a single file ({', '.join(dict.fromkeys(suffixes))})")


def files_of_split(folder: Path) -> tuple[Path, Path] | None:
    """(queries, judgements) as FlagEmbedding's evaluator names them, SPLIT_queries.jsonl and SPLIT_qrels.jsonl.

    The split is test, or the only one; None: there are no such queries.

    Raises:
        ValueError: several splits without one called test, or no judgements beside the queries.
    """
    found = {
        file.name.partition("_queries.")[0]: file
        for file in sorted(folder.glob("*_queries.*"))
        if file.name.partition("_queries")[2] in FILE_SUFFIXES
    }
    if not found:
        return None
    if "test" not in found and len(found) > 1:
        names = ", ".join(file.name for file in found.values())
        raise ValueError(f"{folder}: got {names}, expected test_queries.jsonl or a single split")
    split = "test" if "test" in found else next(iter(found))
    places = (folder / f"{split}_qrels{suffix}" for suffix in dict.fromkeys((*FILE_SUFFIXES, *TEXT_SUFFIXES)))
    judgements = next((place for place in places if place.is_file()), None)
    if judgements is None:
        raise ValueError(f"{folder}: got {found[split].name} alone, expected {split}_qrels.jsonl beside it")
    return found[split], judgements


def read_judgements(file: Path, queries: Collection[str], known: KnownDocuments) -> tuple[Qrels, Counts]:
    """The grades of the known queries, and what was counted.

    A document that is not known stays: it counts as never found. A query that is not in `queries` is left out.

    Raises:
        ValueError: a line is bad, gives another grade than an earlier line, or no judgement is left.
    """
    qrels: Qrels = {}
    line_of: dict[tuple[str, str], int] = {}
    count: Counter[str] = Counter()
    for line, query, document, grade in _judgements(file):
        if query not in queries:
            count["judgements_of_unknown_queries"] += 1
            continue
        earlier = qrels.setdefault(query, {}).setdefault(document, grade)
        first = line_of.setdefault((query, document), line)
        if earlier != grade:
            raise bad_field(file, line, "score", grade, f"{earlier} as in line {first}, which judges the same document")
        count["repeated_judgements"] += first != line
    if not qrels:
        unknown = count["judgements_of_unknown_queries"]
        got = f"{unknown} judgements of queries that the queries file lacks" if unknown else "no judgements"
        raise ValueError(f"{file}: got {got}, expected at least one of a known query")
    documents = known({document for grades in qrels.values() for document in grades})
    missing = sum(document not in documents for grades in qrels.values() for document in grades)
    count["judgements_of_missing_documents"] = missing
    count["queries_without_judgements"] = len(queries) - len(qrels)
    count["queries_without_relevant_documents"] = sum(max(grades.values()) <= 0 for grades in qrels.values())
    return qrels, only_nonzero(**count)


def _judgements(file: Path) -> Iterator[tuple[int, str, str, int]]:
    """(line, query id, document id, grade) of every judgement."""
    rows = _text_rows(file) if file.name.endswith(TEXT_SUFFIXES) else _table_rows(file)
    for line, (query, document, grade) in rows:
        yield (
            line,
            _id(file, line, "query-id", query),
            _id(file, line, "corpus-id", document),
            _grade(file, line, grade),
        )


def _text_rows(file: Path) -> Iterator[tuple[int, Sequence[str]]]:
    places: Sequence[int] | None = None
    width = 0
    for line, content in read_lines(file):
        fields = _fields(content)
        if places is None:
            header = _places(names := _fields(content.removeprefix("#")))
            width = len(fields) if header is None else len(names)
            places = header if header is not None else (0, 2, 3) if width == 4 else (0, 1, 2)
            if header is not None:
                continue
        if len(fields) != width or width < 3 or width > 4:
            expected = "3 (query-id corpus-id score) or 4 (query-id 0 corpus-id score), separated by tabs or blanks"
            if width in (3, 4):
                expected = f"{width} as above"
            raise bad_field(file, line, "columns", len(fields), expected)
        yield line, [fields[place] for place in places]


def _fields(line: str) -> list[str]:
    return [field.strip() for field in (line.split("\t") if "\t" in line else line.split())]


def _table_rows(file: Path) -> Iterator[tuple[int, Sequence[Any]]]:
    for line, row in read_rows(file):
        names = list(row)
        places = _places(names)
        if places is None:
            raise bad_field(file, line, "columns", ", ".join(names), ", ".join(_COLUMNS))
        yield line, [row[names[place]] for place in places]


def _places(names: Sequence[str]) -> tuple[int, int, int] | None:
    """Where query, document and grade stand among the column names; None if these are no column names."""
    plain = [re.sub(r"[-_ ]", "", name).lower() for name in names]
    kinds = [next((kind for kind, known in _NAMES.items() if name in known), None) for name in plain]
    if None in kinds or any(kinds.count(kind) != 1 for kind in _COLUMNS):
        return None
    return kinds.index("query-id"), kinds.index("corpus-id"), kinds.index("score")


def _id(file: Path, line: int, field: str, value: Any) -> str:
    if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
        raise bad_field(file, line, field, value, "a text or a whole number")
    return str(value)


def _grade(file: Path, line: int, value: Any) -> int:
    """The grade as a whole number: 1, "1" and "1.0" are 1, as where mteb casts it to 32 bits; 0.5 is refused."""
    try:
        number = float(value) if not isinstance(value, bool) else float("nan")
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not abs(number) <= _LARGEST_GRADE or number != int(number):
        is_word = isinstance(value, str) and not re.search(r"\d", value)
        hint = "; a header has the names query-id, corpus-id, score" if is_word else ""
        raise bad_field(file, line, "score", value, f"a whole number{hint}")
    return int(number)
