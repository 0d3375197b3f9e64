"""What a data file holds, as far as its first rows tell: kind, rows, lengths, negatives, labels, script."""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from harness.data.source.containers.table import is_saved_dataset, suffix_of
from harness.data.source.files import BadRow, read_rows
from harness.data.source.formats import read_formatted_rows
from harness.data.source.validation import validate
from harness.evaluation.datasets import data_files
from harness.settings.in_short import joined_in_short
from harness.types import Example, TaskKind

ROWS_LOOKED_AT = 2000
MOST_ROWS_COUNTED = 1_000_000
KINDS: tuple[TaskKind, ...] = ("retrieval", "sts", "classification")
_EVALUATION_WORDS = ("test", "dev", "valid", "validation", "eval")


@dataclass(frozen=True, slots=True)
class SeenFile:
    """A training file. lengths: of its texts, in the unit of `measure`. script: of most letters, None without any."""

    path: Path
    kind: TaskKind
    rows: int
    lengths: np.ndarray
    negatives: int  # of most rows: the median
    labels: int  # distinct ones in the rows looked at
    script: str | None
    bad_rows: int
    bad_row: str = ""  # what is wrong with the first of them

    @property
    def rows_in_words(self) -> str:
        return f"{self.rows:,}" if self.rows < MOST_ROWS_COUNTED else f"at least {MOST_ROWS_COUNTED:,}"


@dataclass(frozen=True, slots=True)
class Seen:
    """Training files, evaluation data, and what is neither, with the reason."""

    training: list[SeenFile]
    evaluation: list[Path]
    left_out: list[tuple[Path, str]]


def look_at(places: Sequence[Path], measure: Callable[[list[str]], np.ndarray]) -> Seen:
    """Look at files, and at the files of folders and of their subfolders.

    measure: texts → their lengths.

    Raises:
        ValueError: a place does not exist, or nothing in it can be trained on.
    """
    seen = Seen([], [], [])
    for place in places:
        if not place.exists():
            raise ValueError(f"{place}: got no such file or folder, expected data; see docs/data.md")
        _look_at(place, seen, measure)
    if not seen.training:
        reasons = "; ".join(f"{path}: {reason}" for path, reason in seen.left_out[:3]) or "no data files"
        raise ValueError(f"{', '.join(map(str, places))}: got nothing to train on ({reasons}); see docs/data.md")
    return seen


def _look_at(place: Path, seen: Seen, measure: Callable[[list[str]], np.ndarray]) -> None:
    if place.is_dir() and not is_saved_dataset(place):
        if _is_retrieval_benchmark(place):
            seen.evaluation.append(place)
            return
        for child in sorted(place.iterdir()):
            if not child.name.startswith(".") and (child.is_dir() or suffix_of(child.name)):
                _look_at(child, seen, measure)
        return
    if _is_for_evaluation(place):
        _take_for_evaluation(place, seen)
        return
    found = _kind_of(place)
    if isinstance(found, str) and found not in KINDS:
        seen.left_out.append((place, found))
    else:
        seen.training.append(_measured(place, found, measure))


def _is_retrieval_benchmark(folder: Path) -> bool:
    try:
        return data_files(folder)[0] == "retrieval"
    except ValueError:
        return False


def _is_for_evaluation(path: Path) -> bool:
    words = path.name.lower().replace("-", ".").replace("_", ".").split(".")
    return any(word in _EVALUATION_WORDS for word in words)


def _take_for_evaluation(path: Path, seen: Seen) -> None:
    for place in (path, path.parent):  # classification is scored on a folder with train and test
        try:
            kind = data_files(place)[0]
        except ValueError as error:
            problem = str(error)
            continue
        if kind != "clustering":  # a file of labelled texts alone: the folder says that it is classification
            if place not in seen.evaluation:
                seen.evaluation.append(place)
            return
        problem = "labelled texts without a file train beside them"
    seen.left_out.append((path, problem))


def _kind_of(path: Path) -> TaskKind | str:
    """The kind whose columns the first rows have; else why none fits."""
    fitting = [kind for kind in KINDS if _fits(path, kind)]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        try:
            _, row = next(iter(read_rows(str(path), "train")))
        except (ValueError, StopIteration) as error:
            return " ".join(str(error).split())[:120] or "no rows"
        if isinstance(row, BadRow):
            return f"{row.field}: got {row.got}, expected {row.expected}"
        columns = joined_in_short(list(row)[:8])
        return f"columns {columns} of no kind; a task says what they are: columns: {{query: NAME, positive: NAME}}"
    rows = [row for _, row in islice(read_rows(str(path), "train"), 200) if not isinstance(row, BadRow)]
    return "retrieval" if _has_negatives_of_its_queries(rows) else "sts"


def _has_negatives_of_its_queries(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether text pairs with `label` are queries with documents: labels 0 and 1, most 0 beside a 1 of the same query.

    Other numbers say how near the texts are. Pairs that were judged one by one (LCQMC, ATEC) have a 0 for most queries
    without a 1, which retrieval would leave out.
    """
    first = [str(row.get("sentence1", row.get("text1"))) for row in rows]
    label = [str(row.get("label")).removesuffix(".0") for row in rows]
    answered = {text for text, value in zip(first, label, strict=True) if value == "1"}
    beside = [text in answered for text, value in zip(first, label, strict=True) if value == "0"]
    return set(label) <= {"0", "1"} and sum(beside) >= len(beside) / 2


def _fits(path: Path, kind: TaskKind) -> bool:
    try:
        rows = [row for _, row in islice(read_formatted_rows(str(path), "train", kind), 20)]
    except ValueError:
        return False
    return any(not isinstance(row, BadRow) for row in rows)


def _measured(path: Path, kind: TaskKind, measure: Callable[[list[str]], np.ndarray]) -> SeenFile:
    examples: list[Example] = []
    bad_rows, bad_row = 0, ""
    for line, row in islice(read_formatted_rows(str(path), "train", kind), ROWS_LOOKED_AT):
        example = row if isinstance(row, BadRow) else validate(line, row.columns, row.row_format)
        if isinstance(example, BadRow):
            bad_rows += 1
            bad_row = bad_row or f"{example.field}: got {example.got}, expected {example.expected}"
        if isinstance(example, Example):
            examples.append(example)
    texts = [text for example in examples for text in example.texts]
    negatives = [len(example.texts) - 1 - example.num_positives for example in examples] if kind == "retrieval" else []
    rows = sum(1 for _ in islice(read_rows(str(path), "train"), MOST_ROWS_COUNTED))
    return SeenFile(
        path=path,
        kind=kind,
        rows=rows,
        lengths=measure(texts),
        negatives=int(np.median(negatives)) if negatives else 0,
        labels=len({example.label for example in examples if example.label is not None}),
        script=script_of(texts),
        bad_rows=bad_rows,
        bad_row=bad_row,
    )


def script_of(texts: Sequence[str]) -> str | None:
    """The script of most letters: the first word of their Unicode names (LATIN, CJK, CYRILLIC ...)."""
    letters = islice((letter for text in texts for letter in text[:200] if letter.isalpha()), 20_000)
    counts = Counter(unicodedata.name(letter, "UNKNOWN").split()[0] for letter in letters)
    return counts.most_common(1)[0][0] if counts else None
