"""Evaluation data: files of every kind, folders of retrieval and classification, judgements in every form."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from harness.evaluation.datasets import data_files
from harness.evaluation.judgements import read_judgements
from harness.evaluation.kinds.table import KINDS
from tests.fuzz.judgement import Find, judge
from tests.fuzz.target import Target
from tests.fuzz.values import as_json, damaged, odd_texts, seeds, trees

_COLUMNS = (
    "query", "positive", "negative", "text1", "text2", "sentence1", "sentence2", "score", "label", "labels", "text",
    "sentences",
    "title", "_id", "id", "instruction", "query-id", "corpus-id", "other", "",
)  # fmt: skip
_FORMS = (
    ("query", "positive", "negative"), ("text1", "text2", "score"), ("sentence1", "sentence2", "label"), ("text",
    "label"),
    ("text", "labels"), ("sentences", "labels"), ("_id", "text", "title"), ("_id", "text"), ("query-id", "corpus-id",
    "score"),
)  # fmt: skip
_value = st.one_of(st.sampled_from(("a", 0, 1, 0.5, ["a"], ["a", "b"], [])), trees)
# A row has a fitting value in every column but for these: (which column, value).
_changed = st.lists(st.tuples(st.one_of(st.integers(0, 2), st.sampled_from(_COLUMNS)), _value), max_size=1)
_rows = st.lists(_changed, max_size=5)
_some_rows = st.lists(st.one_of(st.just([]), st.just([]), _changed), min_size=2, max_size=4)


def _text(drawn_rows: list[Any], names: tuple[str, ...], seed: int) -> bytes:
    lines = []
    for number, changed in enumerate(drawn_rows):
        row: dict[str, Any] = {
            name: f"{number}" if name.endswith("id") else f"text {number} of {name}" for name in names
        }
        row |= {name: number % 2 for name in names if name in ("label", "score")}
        row |= {"labels": [f"a{number}", "b"], "sentences": ["c", "d"]} if "sentences" in names else {}
        for column, value in changed:
            row[names[column] if isinstance(column, int) and column < len(names) else str(column)] = value
        lines.append(as_json(row, seed + number))
    return damaged("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogatepass"), seed)


def _load(path: Path, folder: Path) -> None:
    kind, files = data_files(path)
    data = KINDS[kind].load(*files, cache=str(folder / "cache"))
    KINDS[kind].num_rows(data)


def _attempt_file(drawn: Any, folder: Path) -> Find | str:
    rows, number, seed, suffix = drawn
    path = folder / f"test{suffix}"
    path.write_bytes(_text(rows, _FORMS[number], seed))
    found = judge(lambda: _load(path, folder))
    path.unlink()
    return found


def _attempt_pair(drawn: Any, folder: Path) -> Find | str:
    """A folder with a train and a test file."""
    train, test, seed = drawn
    place = folder / "labelled"
    place.mkdir(exist_ok=True)
    (place / "train.jsonl").write_bytes(_text(train, ("text", "label"), seed))
    (place / "test.jsonl").write_bytes(_text(test, ("text", "label"), seed >> 2))
    return judge(lambda: _load(place, folder))


def _attempt_retrieval(drawn: Any, folder: Path) -> Find | str:
    documents, queries, judgements, (separator, name, seed) = drawn
    place = folder / "beir"
    shutil.rmtree(place, ignore_errors=True)
    shutil.rmtree(folder / "cache", ignore_errors=True)
    (place / "qrels").mkdir(parents=True)
    (place / "corpus.jsonl").write_bytes(_text(documents, ("_id", "text", "title"), seed))
    (place / "queries.jsonl").write_bytes(_text(queries, ("_id", "text", "instruction"), seed >> 1))
    (place / "qrels" / name).write_bytes(_judgements(judgements, separator, name, seed >> 2))
    return judge(lambda: _load(place, folder))


def _attempt_judgements(drawn: Any, folder: Path) -> Find | str:
    rows, (separator, name, seed) = drawn
    path = folder / name
    path.write_bytes(_judgements(rows, separator, name, seed))
    return judge(lambda: read_judgements(path, {"0", "1", "2"}, lambda ids: ids))


def _judgements(rows: list[Any], separator: str, name: str, seed: int) -> bytes:
    if name.endswith("jsonl"):
        return _text([list(enumerate(row))[:3] for row in rows], ("query-id", "corpus-id", "score"), seed)
    lines = "\n".join(separator.join(map(str, row)) for row in rows)
    return damaged(f"{lines}\n".encode("utf-8", "surrogatepass"), seed)


_id = st.one_of(st.sampled_from(("1", "0", "d1", "q1", 1, 0)), odd_texts, trees)
_judgement = st.one_of(
    *[st.tuples(st.sampled_from("0123"), st.sampled_from("0123"), st.sampled_from(("1", "0", 1, 2)))] * 9,
    st.tuples(_id, _id, st.one_of(st.sampled_from(("1", "0", 1, 2)), odd_texts, trees)),
    st.lists(odd_texts, max_size=5).map(tuple),
)
_header = st.sampled_from(([], [("query-id", "corpus-id", "score")]))
_judgement_rows = st.tuples(_header, st.lists(_judgement, min_size=1, max_size=5)).map(lambda both: both[0] + both[1])
_form = st.tuples(st.sampled_from(("\t", " ", "  \t")), st.sampled_from(("test.tsv", "test.jsonl", "other.txt")), seeds)
_suffix = st.sampled_from((".jsonl", ".jsonl", ".json", ".csv"))
TARGETS = (
    Target("evaluation: files", st.tuples(_rows, st.integers(0, len(_FORMS) - 1), seeds, _suffix), _attempt_file, 2.0),
    Target("evaluation: train and test", st.tuples(_rows, _rows, seeds), _attempt_pair, 1.0),
    Target("evaluation: judgements", st.tuples(_judgement_rows, _form), _attempt_judgements, 2.0),
    Target(
        "evaluation: retrieval",
        st.tuples(_some_rows, _some_rows, _judgement_rows, _form),
        _attempt_retrieval,
        0.3,
    ),
)
