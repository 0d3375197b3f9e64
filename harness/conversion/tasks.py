"""The tasks of a recipe, from another trainer's data, batch, instructions and losses."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from harness.conversion.given import Given
from harness.conversion.sentence_transformers import LOSSES_THERE
from harness.conversion.table import Remark
from harness.data.source.config import without_batch_negatives
from harness.data.source.files import BadRow
from harness.data.source.formats import read_formatted_rows
from harness.data.source.locate import dataset_name
from harness.settings.plain_name import plain_name
from harness.types import TaskKind

_ROWS_LOOKED_AT = 20
Tasks = tuple[list[dict[str, Any]], list[Remark]]


def tasks_of(given: Given, known: Mapping[str, Any], ranks: int) -> Tasks:
    """A task per data set, with its part of the batch; and remarks on data that cannot be read as it is.

    Raises:
        ValueError: no data is named, or data that is there has no columns that can be read.
    """
    paths = _paths(known)
    if not paths:
        raise ValueError(
            "train_data: got none, expected the data among the arguments (train_data, dataset_name or load_dataset)"
        )
    batch = int(known.get("per_device_train_batch_size", 8)) * ranks * int(known.get("gradient_accumulation_steps", 1))
    losses = [LOSSES_THERE[name] for name in given.losses if name in LOSSES_THERE and not LOSSES_THERE[name].none]
    names = _names(paths, given.of_data)
    tasks, remarks = [], list[Remark]()
    for index, (name, path) in enumerate(zip(names, paths, strict=True)):
        loss = losses[min(index, len(losses) - 1)] if losses else None
        kind: TaskKind = loss.kind if loss else "retrieval"  # type: ignore[assignment]
        task: dict[str, Any] = {"name": name, "kind": kind, "path": path, "quota": max(1, batch)}
        if loss:
            task["loss"] = loss.loss
        if kind == "retrieval":
            task["negatives"] = _negatives(known, path, loss.negatives if loss else "", remarks)
        _distillation(task, known)
        _instructions(task, known)
        remarks += _prompts_of_columns(task, known)
        for source, key in (("dataset_config", "config_name"), ("dataset_split", "split"), ("corpus_path", "corpus")):
            if source in known and kind == "retrieval":
                task[key] = known[source]
        task |= given.of_data[index] if given.of_data else {}
        remarks += _look(path, kind, task)
        tasks.append({key: value for key, value in task.items() if value not in ({}, None)})
    return tasks, remarks


def _names(paths: list[str], of_data: list[dict[str, str]]) -> list[str]:
    """A name per task; of a data set that is taken in several configurations, with the configuration."""
    different = list(dict.fromkeys(paths))
    names = dict(zip(different, dataset_name(different), strict=True))
    ends = [
        "".join(f"-{value}" for value in keys.values()) if paths.count(path) > 1 else ""
        for path, keys in zip(paths, of_data or [{}] * len(paths), strict=True)
    ]
    return [plain_name(names[path] + end, "task") for path, end in zip(paths, ends, strict=True)]


def _paths(known: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    for name in ("train_data", "dataset_path", "dataset_name"):
        value = known.get(name)
        found += [value] if isinstance(value, str) else [str(one) for one in value or ()]
        if found:
            break
    return found


def _negatives(known: Mapping[str, Any], path: str, implied: str, remarks: list[Remark]) -> dict[str, Any]:
    negatives: dict[str, Any] = {}
    per_query = int(known.get("train_group_size", 1)) - 1
    if without_batch_negatives(path) is not None:
        negatives["scope"] = "own"
    if per_query > 0:
        negatives["per_query"] = per_query
    if implied == "symmetric":
        negatives["symmetric"] = True
    if implied == "guide":
        why = (
            "the guide model is computed in the script: set guide.name_or_path, guide: true in the task's negatives, "
            "and loss.temperature, which is 0.01 there unless the script gives one"
        )
        remarks.append(Remark("guide", None, "differs", "guide", why))
    if implied == "per_query":
        negatives.setdefault("per_query", 1)
    return negatives


def _distillation(task: dict[str, Any], known: Mapping[str, Any]) -> None:
    if known.get("knowledge_distillation") and task["kind"] == "retrieval":
        task["loss"] = ["info_nce", "kl"]
        task["negatives"].setdefault("per_query", 1)


def _instructions(task: dict[str, Any], known: Mapping[str, Any]) -> None:
    """FlagEmbedding's instruction in its format; Tevatron's prefixes."""
    prompts = {}
    for side, role, prefix in (("query", "query", "query_prefix"), ("passage", "document", "passage_prefix")):
        instruction = known.get(f"{side}_instruction_for_retrieval")
        template = str(known.get(f"{side}_instruction_format", "{}{}")).replace("\\n", "\n")
        if isinstance(instruction, str) and instruction:
            before, _, after = template.replace("{}", instruction, 1).partition("{}")
            if after:
                raise ValueError(
                    f"{side}_instruction_format: got {template!r}, which has text after the {side}, expected none; a "
                    "prompt stands before its text"
                )
            prompts[role] = before
        elif isinstance(known.get(prefix), str):
            prompts[role] = known[prefix]
    if prompts and task["kind"] == "retrieval":
        task["prompts"] = prompts


_QUERY_COLUMNS = {"query", "anchor", "question", "sentence1"}
_DOCUMENT_COLUMNS = {"positive", "document", "passage", "answer", "negative", "sentence2"}


def _prompts_of_columns(task: dict[str, Any], known: Mapping[str, Any]) -> list[Remark]:
    """sentence-transformers' `prompts`: one text, or a text per column, as queries' and documents' prompts."""
    given = known.get("prompts")
    if given is None:
        return []
    by_column = dict.fromkeys(("query", "positive"), given) if isinstance(given, str) else given
    sides: dict[str, set[Any]] = {"query": set(), "document": set()}
    for column, prompt in by_column.items() if isinstance(by_column, Mapping) else ():
        name = str(column).rstrip("0123456789").rstrip("_") if str(column).startswith("negative") else column
        side = "query" if name in _QUERY_COLUMNS else "document" if name in _DOCUMENT_COLUMNS else "other"
        sides.setdefault(side, set()).add(prompt)
    is_clear = task["kind"] == "retrieval" and "other" not in sides and all(len(texts) < 2 for texts in sides.values())
    if not is_clear or not all(isinstance(text, str) for texts in sides.values() for text in texts):
        why = f"not put into task {task['name']}, for they are not one text for queries and one for documents"
        return [Remark("prompts", None, "differs", "tasks.NAME.prompts", why)]
    task["prompts"] = {side: text for side, texts in sides.items() for text in texts}
    return []


def _look(path: str, kind: TaskKind, task: Mapping[str, Any]) -> list[Remark]:
    """Read the first rows, if the data is here.

    Raises:
        ValueError: its columns cannot be read.
    """
    if not Path(path).exists():
        return [Remark("train_data", path, "differs", "tasks.NAME.path", "not found from here; it is not looked at")]
    rows = islice(read_formatted_rows(path, str(task.get("split", "train")), kind), _ROWS_LOOKED_AT)
    bad = next(((line, row) for line, row in rows if isinstance(row, BadRow)), None)
    if bad is None:
        return []
    line, row = bad
    return [
        Remark(
            "train_data",
            f"{path}:{line}",
            "differs",
            "tasks.NAME.path",
            f"{row.field}: got {row.got}, expected {row.expected}",
        )
    ]
