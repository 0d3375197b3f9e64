"""The tasks of a recipe, from another trainer's data, batch, instructions and losses: each trainer has its own way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.conversion.arguments.sentence_transformers import LOSSES_THERE, Loss
from harness.conversion.arguments.table import Remark
from harness.conversion.flag_data import flag_sets, instructions, scope_of, with_settings_of_rows
from harness.conversion.given.given import Given
from harness.conversion.look import look, prompts_by_column
from harness.conversion.script.values import DataSet, LossCall, Model
from harness.data.source.config import without_batch_negatives
from harness.data.source.locate import dataset_name
from harness.settings.plain_name import plain_name

Source = tuple[str, DataSet, LossCall | None]
Task = dict[str, Any]


def tasks_of(given: Given, known: Mapping[str, Any], ranks: int, remarks: list[Remark]) -> list[Task]:
    """The tasks, each with the whole batch as its quota; and remarks on data that cannot be read as it is.

    Raises:
        ValueError: no data is named, or data that is there has no columns that can be read.
    """
    paths = _paths(known)
    if not paths and not given.data:
        raise ValueError(
            "train_data: got none, expected the data among the arguments (train_data, dataset_name or load_dataset); "
            "rows that a script makes: write them to a file, or train from Python (docs/python.md)"
        )
    if given.trainer == "FlagEmbedding":
        tasks = _of_flag_embedding(paths, known, remarks)
    elif given.trainer == "sentence-transformers":
        tasks = _of_sentence_transformers(given.data or _in_order(given.losses, paths, known), known, remarks)
    else:
        tasks = _of_tevatron(paths, known, remarks)
    batch = int(known.get("per_device_train_batch_size", 8)) * ranks * int(known.get("gradient_accumulation_steps", 1))
    for task in tasks:
        task["quota"] = max(1, batch)
    return [{key: value for key, value in task.items() if value not in ({}, None)} for task in tasks]


def _of_flag_embedding(paths: list[str], known: Mapping[str, Any], remarks: list[Remark]) -> list[Task]:
    """One task of all files, or one per file; with what their rows say."""
    sets, heads = flag_sets(known, paths)
    names = ["train_data"] if len(sets) < len(paths) else _names([data.files[0] for data in sets])
    tasks = []
    for name, data in zip(names, sets, strict=True):
        task = _task(name, "retrieval", data.files)
        task["negatives"] = scope_of(data, known, remarks) | _of_group(known)
        if known.get("knowledge_distillation"):
            task["loss"] = ["info_nce", "kl"]
            task["negatives"].setdefault("per_query", 1)
        task["prompts"] = instructions(known)
        remarks += with_settings_of_rows(task, data, heads, known)
        look(task, remarks)
        tasks.append(task)
    return tasks


def _of_tevatron(paths: list[str], known: Mapping[str, Any], remarks: list[Remark]) -> list[Task]:
    """A task per path; all have the same split, corpus and prefixes."""
    tasks = []
    for name, path in zip(_names(paths), paths, strict=True):
        task = _task(name, "retrieval", path)
        task["negatives"] = _of_name(path) | _of_group(known)
        prefixes = {"query": known.get("query_prefix"), "document": known.get("passage_prefix")}
        task["prompts"] = {role: prefix for role, prefix in prefixes.items() if isinstance(prefix, str)}
        task |= {"config_name": known.get("dataset_config"), "split": known.get("dataset_split")}
        task["corpus"] = known.get("corpus_path") or known.get("corpus_name")  # with both, the name is the form: json
        look(task, remarks)
        tasks.append(task)
    return tasks


def _of_sentence_transformers(sources: list[Source], known: Mapping[str, Any], remarks: list[Remark]) -> list[Task]:
    """A task per data set, with the loss that it has there; columns have their places, whatever they are called."""
    named = {key for key, _, _ in sources if key}
    tasks = []
    for name, (key, data, call) in zip(_names_there(sources), sources, strict=True):
        there = LOSSES_THERE.get(call.name) if call else None
        task = _task(name, _kind(there), data.path)
        if there is not None and there.loss:
            task["loss"] = there.loss
        if task["kind"] == "retrieval":
            task["negatives"] = _of_name(data.path) | _of_loss(there, call, remarks)
        task["temperature"] = None if task.get("loss") in ("margin_mse", "kl") else _temperature(call)
        task["config_name"] = data.config_name
        task["split"] = data.split if data.split != "train" else None
        if data.changes:
            done = ", ".join(dict.fromkeys(data.changes))
            why = f"the script changes the rows ({done}), the recipe takes them as they lie"
            remarks.append(Remark("train_data", task["path"], "differs", "tasks.NAME.path", why))
        columns = look(task, remarks, by_order=True)
        prompts_by_column(task, known.get("prompts"), key, named, columns, remarks)
        tasks.append(task)
    _matryoshka_of_all(sources, remarks)
    return tasks


def _task(name: str, kind: str, path: str | tuple[str, ...]) -> Task:
    plain = path if isinstance(path, str) else path[0] if len(path) == 1 else list(path)
    return {"name": name, "kind": kind, "path": plain, "quota": None}


def _paths(known: Mapping[str, Any]) -> list[str]:
    found: list[str] = []
    for name in ("train_data", "dataset_path", "dataset_name"):
        value = known.get(name)
        found += [value] if isinstance(value, str) else [str(one) for one in value or ()]
        if found:
            break
    return found


def _names(paths: list[str]) -> list[str]:
    """The names of the tasks, by their files.

    Raises:
        ValueError: a path is given twice.
    """
    return _each_another([plain_name(name, "task") for name in dataset_name(paths)])


def _names_there(sources: list[Source]) -> list[str]:
    """The names of the tasks: those that the trainer knows, else by the files; with the configuration and the split of
    a data set that is taken in several."""
    parts = [
        (data.path if isinstance(data.path, str) else data.path[0], data.config_name, data.split)
        for _, data, _ in sources
    ]
    firsts = [first for first, _, _ in parts]
    different = (
        list(dict.fromkeys(firsts)) if len(set(parts)) == len(parts) or all(k for k, _, _ in sources) else firsts
    )
    of_files = dict(zip(different, dataset_name(different), strict=True))
    names = []
    for (key, _, _), (first, config, split) in zip(sources, parts, strict=True):
        part = [config, split if split != "train" else None] if firsts.count(first) > 1 else []
        names.append(plain_name(key or "-".join(filter(None, (of_files[first], *part))), "task"))
    return _each_another(names)


def _each_another(names: list[str]) -> list[str]:
    return [name if names.count(name) == 1 else f"{name}_{i}" for i, name in enumerate(names)]


def _of_name(path: str | tuple[str, ...]) -> dict[str, Any]:
    """`negatives.scope`, where the name of the data says that other queries' documents are no negatives."""
    return {} if without_batch_negatives(path) is None else {"scope": "own"}


def _of_group(known: Mapping[str, Any]) -> dict[str, Any]:
    """`negatives.per_query`: a group is a positive and its negatives, which are drawn from the list in every epoch."""
    per_query = int(known.get("train_group_size", 1)) - 1
    if per_query <= 0:
        return {}
    first_ones = known.get("negative_passage_no_shuffle")
    return {"per_query": per_query, "draw": "ranked" if first_ones else "random"}


def _in_order(losses: list[str], paths: list[str], known: Mapping[str, Any]) -> list[Source]:
    """The data of arguments; of several losses, each has the next data set."""
    usable = [name for name in losses if name in LOSSES_THERE and not LOSSES_THERE[name].none]
    settings = {key: known[key] for key in ("scale", "temperature") if key in known}
    calls = [LossCall(name, settings) for name in usable]
    return [("", DataSet(p), calls[min(i, len(calls) - 1)] if calls else None) for i, p in enumerate(paths)]


def _kind(there: Loss | None) -> str:
    return "retrieval" if there is None else there.kind or there.near or "retrieval"


def _of_loss(there: Loss | None, call: LossCall | None, remarks: list[Remark]) -> dict[str, Any]:
    """`negatives`: what the loss implies."""
    implied = there.negatives if there else ""
    if implied == "guide" and guide_of(call) is None:
        why = "the guide model is computed in the script: set guide.name_or_path"
        remarks.append(Remark("guide", None, "differs", "guide", why))
    return {implied: 1 if implied == "per_query" else True} if implied else {}


def _temperature(call: LossCall | None) -> float | None:
    """`temperature` of sentence-transformers' scale or temperature; GISTEmbed has another default."""
    if call is None:
        return None
    scale, temperature = call.arguments.get("scale"), call.arguments.get("temperature")
    if isinstance(scale, int | float) and scale > 0:
        return 1 / scale
    if isinstance(temperature, int | float):
        return float(temperature)
    return 0.01 if "GISTEmbed" in call.name else None


def _matryoshka_of_all(sources: list[Source], remarks: list[Remark]) -> None:
    """Say that dims are of the model here, where a script has them around some of its losses only."""
    without = [call.name for _, _, call in sources if call and "MatryoshkaLoss" not in call.inside]
    if 0 < len(without) < len(sources):
        why = f"the dims are of the model here, so they are trained with {', '.join(without)}, too"
        remarks.append(Remark("MatryoshkaLoss", None, "differs", "model.matryoshka_dims", why))


def guide_of(call: LossCall | None) -> str | None:
    """The name of the guide that a loss is given, if the script says it."""
    guide = call.arguments.get("guide") if call else None
    return guide.name if isinstance(guide, Model) and isinstance(guide.name, str) else None
