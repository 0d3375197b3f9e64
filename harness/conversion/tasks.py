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
    names = [plain_name(name, "task") for name in dataset_name(paths)]
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
        for source, key in (("dataset_config", "config_name"), ("dataset_split", "split"), ("corpus_path", "corpus")):
            if source in known and kind == "retrieval":
                task[key] = known[source]
        remarks += _look(path, kind, task)
        tasks.append({key: value for key, value in task.items() if value not in ({}, None)})
    return tasks, remarks


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
            "the guide model is computed in the script: set guide.name_or_path, and guide: true in the task's negatives"
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
