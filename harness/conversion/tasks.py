"""The tasks of a recipe, from another trainer's data, batch, instructions and losses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from harness.conversion.flag_data import ROWS_LOOKED_AT, FlagSet, Heads, flag_sets, in_format, with_settings_of_rows
from harness.conversion.given import Given
from harness.conversion.sentence_transformers import LOSSES_THERE
from harness.conversion.table import Remark
from harness.data.source.config import without_batch_negatives
from harness.data.source.facts import ReadSettings
from harness.data.source.files import BadRow
from harness.data.source.formats import read_formatted_rows
from harness.data.source.locate import dataset_name
from harness.settings.plain_name import plain_name
from harness.types import TaskKind

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
    heads: Heads = {}
    sets = [FlagSet((path,), without_batch_negatives(path) is not None) for path in paths]
    if given.trainer == "FlagEmbedding":
        sets, heads = flag_sets(known, paths)
    firsts = [data.files[0] for data in sets]
    names = ["train_data"] if len(sets) < len(paths) else [plain_name(name, "task") for name in dataset_name(firsts)]
    tasks, remarks = [], list[Remark]()
    for index, (name, data) in enumerate(zip(names, sets, strict=True)):
        path = data.files[0] if len(data.files) == 1 else list(data.files)
        loss = losses[min(index, len(losses) - 1)] if losses else None
        kind: TaskKind = loss.kind if loss else "retrieval"  # type: ignore[assignment]
        task: dict[str, Any] = {"name": name, "kind": kind, "path": path, "quota": max(1, batch)}
        if loss:
            task["loss"] = loss.loss
        if kind == "retrieval":
            task["negatives"] = _negatives(known, data, loss.negatives if loss else "", remarks)
        _distillation(task, known)
        _instructions(task, known)
        if given.trainer == "FlagEmbedding":
            remarks += with_settings_of_rows(task, data, heads, known)
        for source, key in (("dataset_config", "config_name"), ("dataset_split", "split"), ("corpus_path", "corpus")):
            if source in known and kind == "retrieval":
                task[key] = known[source]
        remarks += _look(data.files, kind, task)
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


def _negatives(known: Mapping[str, Any], data: FlagSet, implied: str, remarks: list[Remark]) -> dict[str, Any]:
    negatives: dict[str, Any] = {}
    per_query = int(known.get("train_group_size", 1)) - 1
    if data.own:
        negatives["scope"] = "own"
    elif not known.get("same_dataset_within_batch") and data.split:
        negatives["scope"] = "step"  # their batch holds rows of all files
    elif without_batch_negatives(data.files) is not None:
        negatives["scope"] = "task"
        why = "without same_dataset_within_batch FlagEmbedding takes no notice of no_in_batch_neg in names"
        remarks.append(Remark("train_data", ", ".join(data.files), "differs", "tasks.NAME.negatives.scope", why))
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
            prompts[role] = in_format(template, instruction, side)
        elif isinstance(known.get(prefix), str):
            prompts[role] = known[prefix]
    if prompts and task["kind"] == "retrieval":
        task["prompts"] = prompts


def _look(paths: Sequence[str], kind: TaskKind, task: Mapping[str, Any]) -> list[Remark]:
    """Read the first rows, of each file that is here.

    Raises:
        ValueError: its columns cannot be read.
    """
    remarks = []
    settings = ReadSettings(columns=task.get("columns", {}))
    for path in paths:
        if not Path(path).exists():
            why = "not found from here; it is not looked at"
            remarks.append(Remark("train_data", path, "differs", "tasks.NAME.path", why))
            continue
        rows = islice(read_formatted_rows(path, str(task.get("split", "train")), kind, settings), ROWS_LOOKED_AT)
        bad = next(((line, row) for line, row in rows if isinstance(row, BadRow)), None)
        if bad is not None:
            line, row = bad
            why = f"{row.field}: got {row.got}, expected {row.expected}"
            remarks.append(Remark("train_data", f"{path}:{line}", "differs", "tasks.NAME.path", why))
    return remarks
