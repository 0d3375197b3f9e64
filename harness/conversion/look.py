"""Looks at the first rows of data that is here: whether they can be read, which columns they have, how many negatives.

sentence-transformers gives columns their places, whatever they are called: the first is the query, the second the
positive, all others are negatives; a column called label, labels, score or scores is the label.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from harness.conversion.arguments.table import Remark
from harness.data.source.facts import ReadSettings
from harness.data.source.files import BadRow, Row, read_rows
from harness.data.source.formats import read_formatted_rows
from harness.data.source.validation import validate
from harness.types import Example

ROWS_LOOKED_AT = 20  # of a file or folder
_LABELS = ("label", "labels", "score", "scores")
_FIRST = ("anchor", "query", "question", "sentence1", "text1", "sentence_A", "premise")
_OTHERS = ("positive", "document", "passage", "answer", "sentence2", "text2", "sentence_B", "hypothesis")


def look(task: dict[str, Any], remarks: list[Remark], by_order: bool = False) -> list[str]:
    """Look at each file or folder of a task. by_order: as sentence-transformers, whose negatives are all in use.

    Returns: the columns that hold texts, in their order; none if the data is not here.

    Raises:
        ValueError: its columns cannot be read.
    """
    paths = [task["path"]] if isinstance(task["path"], str) else task["path"]
    here = [path for path in paths if Path(path).exists()]
    for path in paths:
        if path not in here:
            why = "not found from here; it is not looked at"
            if by_order and task["kind"] == "retrieval":
                why += "; negatives.per_query is as many negatives as a row has, by default 0"
            remarks.append(Remark("train_data", path, "differs", "tasks.NAME.path", why))
    columns = _columns(here[0], task) if here else []
    if by_order and here and task["kind"] != "classification":
        _name_columns(here, task, columns, remarks)
    rows: list[Example] = []
    for path in here:
        line, found = _first_rows(path, task)
        if isinstance(found, BadRow):
            why = f"{found.field}: got {found.got}, expected {found.expected}"
            remarks.append(Remark("train_data", f"{path}:{line}", "differs", "tasks.NAME.path", why))
        else:
            rows += found
    if by_order and task["kind"] == "retrieval" and rows:
        _use_all_negatives(task, rows, columns, remarks)
    return columns


def rows_that_are_read(path: str, split: str = "train") -> Iterator[Row]:
    """The rows of a file or folder as they lie there, without those that cannot be read."""
    return (row for _, row in read_rows(path, split) if not isinstance(row, BadRow))


def _columns(path: str, task: Mapping[str, Any]) -> list[str]:
    return [name for name in next(rows_that_are_read(path, task.get("split") or "train"), {}) if name not in _LABELS]


def _first_rows(path: str, task: Mapping[str, Any]) -> tuple[int, list[Example] | BadRow]:
    """The first rows, or the first of them that cannot be read, with its line."""
    columns = {key: names if isinstance(names, str) else tuple(names) for key, names in task.get("columns", {}).items()}
    rows = read_formatted_rows(path, task.get("split") or "train", task["kind"], ReadSettings(columns))
    examples: list[Example] = []
    for line, row in islice(rows, ROWS_LOOKED_AT):
        example = row if isinstance(row, BadRow) else validate(line, row.columns, row.row_format)
        if isinstance(example, BadRow):
            return line, example
        if isinstance(example, Example):
            examples.append(example)
    return 0, examples


def _name_columns(here: Sequence[str], task: dict[str, Any], columns: list[str], remarks: list[Remark]) -> None:
    """Say in `columns` what the places of columns say there, if the rows can be read so and not by their names."""
    places = ("query", "positive") if task["kind"] == "retrieval" else ("text1", "text2")
    if _can_be_read(here, task) or len(columns) < 2 or (task["kind"] == "sts" and len(columns) > 2):
        return
    named: dict[str, Any] = {ours: name for ours, name in zip(places, columns, strict=False) if ours != name}
    if columns[2:]:
        named["negative"] = columns[2:]
    try:
        if not _can_be_read(here, {**task, "columns": named}):
            return
    except ValueError:
        return
    task["columns"] = named
    why = f"columns {', '.join(columns)}, by their order"
    remarks.append(Remark("train_data", task["path"], "differs", "tasks.NAME.columns", why))


def _can_be_read(paths: Sequence[str], task: Mapping[str, Any]) -> bool:
    return not any(isinstance(_first_rows(path, task)[1], BadRow) for path in paths)


def _use_all_negatives(task: dict[str, Any], rows: list[Example], columns: list[str], remarks: list[Remark]) -> None:
    most = max(len(row.texts) - 1 - row.num_positives for row in rows)
    if most:
        task["negatives"]["per_query"] = most
    query = task.get("columns", {}).get("query")
    if query is None and columns and columns[0] not in (*_FIRST, "prompt", "messages", "query_text"):
        why = f"the column {columns[0]} is the first, so it is the query there; here names count"
        remarks.append(Remark("train_data", task["path"], "differs", "tasks.NAME.columns", why))


def prompts_by_column(
    task: dict[str, Any], given: Any, key: str, keys: set[str], columns: list[str], remarks: list[Remark]
) -> None:
    """sentence-transformers' `prompts`: one for all texts, or by column, or either by data set. None that it gives is
    none at all there, also where the model's folder has prompts."""
    if given is None:
        return
    if isinstance(given, dict) and set(given) & keys:
        given = given.get(key, {})
    if isinstance(given, str):
        given = dict.fromkeys(columns or ("query", "document"), given)
    if not isinstance(given, dict) or any(not isinstance(value, str) for value in given.values()):
        remarks.append(Remark("prompts", given, "differs", "tasks.NAME.prompts", "expected texts; set it by hand"))
        return
    names = columns or _by_their_names(given)
    if names is None:
        why = f"which columns of {task['name']} are queries is not known without its data; set it by hand"
        remarks.append(Remark("prompts", ", ".join(given), "differs", "tasks.NAME.prompts", why))
        return
    unknown = [name for name in given if name not in names]
    if unknown:
        why = f"of no column of {task['name']}, which has {', '.join(names)}"
        remarks.append(Remark("prompts", ", ".join(unknown), "differs", "tasks.NAME.prompts", why))
    texts = [given.get(name, "") for name in names] or [""]
    task["prompts"] = {"query": texts[0], "document": texts[min(1, len(texts) - 1)]}
    differing = {text for text in texts[1:] if text != texts[min(1, len(texts) - 1)]}
    if task["kind"] != "retrieval":
        del task["prompts"]["document"]
        differing = set(texts[1:]) - {texts[0]}
    if differing:
        why = f"{task['name']} has one prompt for {'its documents' if task['kind'] == 'retrieval' else 'all its texts'}"
        remarks.append(Remark("prompts", ", ".join(map(repr, sorted(differing))), "differs", "tasks.NAME.prompts", why))


def _by_their_names(given: Mapping[str, Any]) -> list[str] | None:
    """The columns that have prompts, the query's first, where the data is not here; None: their names do not tell."""
    first = [name for name in given if name in _FIRST]
    others = [name for name in given if name in _OTHERS or name.startswith("negative")]
    if len(first) > 1 or len(first) + len(others) < len(given):
        return None
    return [*(first or _FIRST[:1]), *others]
