"""The tasks of a recipe, from another trainer's data, batch, instructions and losses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.conversion.given import Given
from harness.conversion.look import look, prompts_by_column
from harness.conversion.script.values import DataSet, LossCall, Model
from harness.conversion.sentence_transformers import LOSSES_THERE, Loss
from harness.conversion.table import Remark
from harness.data.source.config import without_batch_negatives
from harness.data.source.locate import dataset_name
from harness.settings.plain_name import plain_name

Source = tuple[str, DataSet, LossCall | None]
Tasks = tuple[list[dict[str, Any]], list[Remark]]


def tasks_of(given: Given, known: Mapping[str, Any], ranks: int) -> Tasks:
    """A task per data set, with its part of the batch; and remarks on data that cannot be read as it is.

    Raises:
        ValueError: no data is named, or data that is there has no columns that can be read.
    """
    sources = given.data or _sources(given, known)
    if not sources:
        raise ValueError(
            "train_data: got none, expected the data among the arguments (train_data, dataset_name or load_dataset); "
            "rows that a script makes: write them to a file, or train from Python (docs/python.md)"
        )
    batch = int(known.get("per_device_train_batch_size", 8)) * ranks * int(known.get("gradient_accumulation_steps", 1))
    tasks, remarks = [], list[Remark]()
    for name, (key, data, call) in zip(_names(sources), sources, strict=True):
        there = LOSSES_THERE.get(call.name) if call else None
        task: dict[str, Any] = {"name": name, "kind": _kind(there), "path": _plain(data.path), "quota": max(1, batch)}
        if there is not None and there.loss:
            task["loss"] = there.loss
        if task["kind"] == "retrieval":
            task["negatives"] = _negatives(known, str(task["path"]), there.negatives if there else "", call, remarks)
        _temperature(task, call)
        _distillation(task, known)
        _instructions(task, known)
        _place_of_rows(task, data, known, remarks)
        by_order = given.trainer == "sentence-transformers"
        columns = look(task, by_order, remarks)
        if by_order:
            prompts_by_column(task, known.get("prompts"), key, {one for one, _, _ in sources if one}, columns, remarks)
        tasks.append({key: value for key, value in task.items() if value not in ({}, None)})
    _matryoshka_of_all(sources, remarks)
    return tasks, remarks


def _sources(given: Given, known: Mapping[str, Any]) -> list[Source]:
    """The data of arguments; of several losses, each has the next data set."""
    losses = [name for name in given.losses if name in LOSSES_THERE and not LOSSES_THERE[name].none]
    settings = {key: known[key] for key in ("scale", "temperature") if key in known and losses}
    calls = [LossCall(name, settings) for name in losses]
    paths = _paths(known)
    return [("", DataSet(p), calls[min(i, len(calls) - 1)] if calls else None) for i, p in enumerate(paths)]


def _names(sources: list[Source]) -> list[str]:
    """The names of the tasks: those that the trainer knows, else by the files."""
    of_files = dataset_name([_first(data.path) for _, data, _ in sources]) if not all(k for k, _, _ in sources) else []
    names = [plain_name(key or of_files[i], "task") for i, (key, _, _) in enumerate(sources)]
    return [name if names.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(names)]


def _first(path: str | tuple[str, ...]) -> str:
    return path if isinstance(path, str) else path[0]


def _plain(path: str | tuple[str, ...]) -> str | list[str]:
    return path if isinstance(path, str) else list(path)


def _kind(there: Loss | None) -> str:
    return "retrieval" if there is None else there.kind or there.near or "retrieval"


def _temperature(task: dict[str, Any], call: LossCall | None) -> None:
    """`temperature` of sentence-transformers' scale or temperature; GISTEmbed has another default."""
    if call is None or task.get("loss") in ("margin_mse", "kl"):
        return
    scale, temperature = call.arguments.get("scale"), call.arguments.get("temperature")
    if isinstance(scale, int | float) and scale > 0:
        task["temperature"] = 1 / scale
    elif isinstance(temperature, int | float):
        task["temperature"] = float(temperature)
    elif "GISTEmbed" in call.name:
        task["temperature"] = 0.01


def _place_of_rows(task: dict[str, Any], data: DataSet, known: Mapping[str, Any], remarks: list[Remark]) -> None:
    task["config_name"] = data.config_name
    task["split"] = data.split if data.split != "train" else None
    for source, key in (("dataset_config", "config_name"), ("dataset_split", "split"), ("corpus_path", "corpus")):
        if source in known and task["kind"] == "retrieval":
            task[key] = known[source]
    if data.changes:
        why = (
            f"the script changes the rows ({', '.join(dict.fromkeys(data.changes))}), the recipe takes them as they lie"
        )
        remarks.append(Remark("train_data", task["path"], "differs", "tasks.NAME.path", why))


def _matryoshka_of_all(sources: list[Source], remarks: list[Remark]) -> None:
    """Say that dims are of the model here, where a script has them around some of its losses only."""
    without = [call.name for _, _, call in sources if call and "MatryoshkaLoss" not in call.inside]
    if 0 < len(without) < len(sources):
        why = f"the dims are of the model here, so they are trained with {', '.join(without)}, too"
        remarks.append(Remark("MatryoshkaLoss", None, "differs", "model.matryoshka_dims", why))


def _paths(known: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    for name in ("train_data", "dataset_path", "dataset_name"):
        value = known.get(name)
        found += [value] if isinstance(value, str) else [str(one) for one in value or ()]
        if found:
            break
    return found


def _negatives(
    known: Mapping[str, Any], path: str, implied: str, call: LossCall | None, remarks: list[Remark]
) -> dict[str, Any]:
    negatives: dict[str, Any] = {}
    per_query = int(known.get("train_group_size", 1)) - 1
    if without_batch_negatives(path) is not None:
        negatives["scope"] = "own"
    if per_query > 0:
        negatives["per_query"] = per_query
    if implied == "symmetric":
        negatives["symmetric"] = True
    if implied == "guide":
        negatives["guide"] = True
        if guide_of(call) is None:
            why = "the guide model is computed in the script: set guide.name_or_path"
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


def guide_of(call: LossCall | None) -> str | None:
    """The name of the guide that a loss is given, if the script says it."""
    guide = call.arguments.get("guide") if call else None
    return guide.name if isinstance(guide, Model) and isinstance(guide.name, str) else None
