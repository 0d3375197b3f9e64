"""Puts the path of a file in the place of rows in memory, wherever a recipe may name data.

tasks: path, corpus                 a data set, or a list of mappings
evaluation.data: {NAME: rows}       or a list of paths and of {name: NAME, path: rows, prompts: ...}
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import xxhash

from harness.data.source.in_memory import FOLDER, is_dataset, is_rows, write_rows
from harness.data.source.locate import cache_root
from harness.settings.in_short import in_short


def with_files(keys: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's keys as plain values, in which every path is a text. Rows in memory are written to the cache.

    Raises:
        ValueError: rows that cannot be written, or evaluation data in memory without a name.
    """
    data = keys.get("data")
    cache = cache_root(data.get("cache") if isinstance(data, Mapping) else None)
    tree = {key: value for key, value in keys.items() if key not in ("tasks", "evaluation")}
    tasks, evaluation = keys.get("tasks"), keys.get("evaluation")
    if "tasks" in keys:
        tree["tasks"] = [_task(task, cache) for task in tasks] if isinstance(tasks, list | tuple) else tasks
    if "evaluation" in keys:
        tree["evaluation"] = _evaluation(evaluation, cache)
    return {key: _plain(value) for key, value in tree.items()}


def _task(task: Any, cache: Path) -> Any:
    if not isinstance(task, Mapping):
        return task
    name, split = str(task.get("name", "task")), str(task.get("split", "train"))
    found = {}
    for key in ("path", "corpus"):
        value, place = task.get(key), f"tasks.{name}.{key}"
        if is_split(value):
            value = _split_of(value, split, place)
        if is_rows(value):
            found[key] = str(write_rows(value, name if key == "path" else f"{name}-corpus", cache, place))
        elif value is not None and not _is_place(value):
            raise ValueError(f"{place}: got {_shown(value)}, expected a path or paths, {_ROWS}")
    rest = dict(task)
    if is_split(task.get("path")) and not _is_place(task.get("corpus")):
        rest.pop("split", None)  # has chosen the rows that are in the file now
    return {**rest, **found}


def _evaluation(section: Any, cache: Path) -> Any:
    if not isinstance(section, Mapping) or "data" not in section:
        return section
    data = section["data"]
    if isinstance(data, Mapping):
        data = [{"name": name, "path": rows} for name, rows in data.items()]
    elif is_dataset(data) or (is_rows(data) and not all("path" in entry for entry in data)):
        raise ValueError(
            "evaluation.data: got rows in memory without a name, expected {NAME: rows}; scores stand under the name"
        )
    return {**section, "data": [_entry(entry, cache) for entry in data] if isinstance(data, list | tuple) else data}


def _entry(entry: Any, cache: Path) -> Any:
    """One data set of `evaluation.data`; its name goes into the name of the file, from which scores take it."""
    if is_dataset(entry):
        raise ValueError("evaluation.data: got rows in memory without a name, expected {NAME: rows}")
    if not isinstance(entry, Mapping) or _is_place(entry.get("path")):
        if isinstance(entry, Mapping) and "name" in entry:
            raise ValueError(
                f"evaluation.data: got the name {entry['name']} for the path {entry['path']}, expected a name for rows "
                "in memory only; a file's data set is called as the file"
            )
        return entry
    rest = {key: value for key, value in entry.items() if key not in ("name", "path")}
    path = evaluation_file(str(entry.get("name", "")), entry.get("path"), cache)
    return {**rest, "path": str(path)} if rest else str(path)


def evaluation_file(name: str, rows: Any, cache: Path) -> Path:
    """The file of rows in memory to score, or the folder of several splits.

    Splits: `{"train": rows, "test": rows}`, or `{"corpus": rows, "queries": rows, "qrels": rows}` as in a BEIR folder.
    """
    place = f"evaluation.data.{name}"
    if not name or name != os.path.basename(name) or name.startswith("."):
        raise ValueError(f"evaluation.data: got the name {name!r}, expected one that a file may have")
    if is_split(rows):
        return _folder(name, rows, cache, place)
    if not is_rows(rows):
        raise ValueError(f"{place}: got {_shown(rows)}, expected {_ROWS.removeprefix('or ')}")
    return write_rows(rows, name, cache, place)


def _folder(name: str, splits: Mapping[str, Any], cache: Path, place: str) -> Path:
    """A folder with a link to the file of every split. Its own name, which scores have, is `name`."""
    judgements = splits.get("qrels")
    files = {
        str(split): write_rows(rows, str(split), cache, f"{place}.{split}")
        for split, rows in splits.items()
        if rows is not judgements
    }
    if judgements is not None:
        files["qrels/test.tsv"] = write_rows(_as_tsv(judgements, f"{place}.qrels"), "qrels", cache, f"{place}.qrels")
    key = xxhash.xxh3_128_hexdigest("".join(f"{split}\0{file}\0" for split, file in files.items()).encode())
    folder = cache / FOLDER / key / name
    for split, file in files.items():
        link = folder / (split if split.endswith(".tsv") else file.name)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.exists():
            shutil.copyfile(file, link)
    return folder


def _as_tsv(rows: Any, place: str) -> str:
    """Judgements as the text of a BEIR folder's qrels/test.tsv."""
    lines = ["\t".join(_JUDGEMENT)]
    for number, row in enumerate(rows, start=1):
        values = [str(row.get(column, "")) for column in _JUDGEMENT]
        if "" in values or any(set(value) & set("\t\r\n") for value in values):
            raise ValueError(
                f"{place}: row {number}: got {in_short(row, quoted=True)}, expected {', '.join(_JUDGEMENT)}"
            )
        lines.append("\t".join(values))
    return "\n".join(lines) + "\n"


def is_split(value: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether this is a mapping of splits to rows in memory, such as a `DatasetDict`."""
    return isinstance(value, Mapping) and bool(value) and all(is_rows(rows) for rows in value.values())


def _split_of(splits: Mapping[str, Any], split: str, place: str) -> Any:
    if split not in splits:
        raise ValueError(
            f"{place}: got the splits {', '.join(map(str, splits))}, expected {split}; set the task's split"
        )
    return splits[split]


def _is_place(value: Any) -> bool:
    """Whether this is a path, or several."""
    if isinstance(value, list | tuple) and value:
        return all(isinstance(one, str | os.PathLike) for one in value)
    return isinstance(value, str | os.PathLike)


_JUDGEMENT = ("query-id", "corpus-id", "score")
_ROWS = "or rows in memory: a datasets.Dataset, or a list of mappings of columns to values"


def _shown(value: Any) -> str:
    kind = f"{type(value).__module__}.{type(value).__name__}"
    if kind == "pandas.core.frame.DataFrame" or kind == "pandas.DataFrame":
        return "a DataFrame (datasets.Dataset.from_pandas makes a Dataset of it)"
    return f"{type(value).__name__} {in_short(value, quoted=True)}"


def _plain(value: Any) -> Any:
    """Paths as texts and tuples as lists, at any depth."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
