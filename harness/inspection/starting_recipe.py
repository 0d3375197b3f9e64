"""A recipe to start from, from what was seen in the data and what the user has answered."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.config import dump_tree
from harness.inspection.look import Seen, SeenFile
from harness.settings.plain_name import plain_name

# What a script's texts are usually started from: small models whose weights are open.
_MODELS: Mapping[str, str] = {"LATIN": "sentence-transformers/all-MiniLM-L6-v2", "CJK": "BAAI/bge-small-zh-v1.5"}
_ANY_LANGUAGE = "intfloat/multilingual-e5-small"
_MOST_NEGATIVES, _NEGATIVES_OF_LABELS = 7, 7
_STEPS_OF_AN_EPOCH = 20  # at least, if the data allows it
_BALANCE = (  # measured with 16 examples of each of four tasks
    "# balance alternate, one task a step: 1.5 points ahead of cbb, all tasks in every step, where a step is small "
    "(docs/tasks_and_losses.md)."
)


@dataclass(frozen=True, slots=True)
class Answers:
    """What the user decides. Every one has a default that is measured."""

    name: str
    model: str
    max_length: int
    batch: int
    epochs: float
    precision: str
    cores_only: bool


def default_model(seen: Seen) -> str:
    """A model for the script of most rows."""
    rows: dict[str, int] = {}
    for file in seen.training:
        rows[file.script or ""] = rows.get(file.script or "", 0) + file.rows
    return _MODELS.get(max(rows, key=lambda script: rows[script]), _ANY_LANGUAGE)


def default_max_length(seen: Seen, limit: int | None) -> int:
    """What 95 of 100 texts fit into, in steps of 32 tokens; at most what the model can read."""
    lengths = np.concatenate([file.lengths for file in seen.training])
    needed = int(np.quantile(lengths, 0.95)) if len(lengths) else 128
    return max(32, min(-(-needed // 32) * 32, limit or 512))


def default_batch(seen: Seen, *, cores_only: bool) -> int:
    """Examples of a step over all tasks: a power of 2, so many that an epoch still has 20 steps."""
    rows = max(file.rows for file in seen.training)
    most = 64 if cores_only else 1024
    batch = 2 ** int(np.log2(max(rows / _STEPS_OF_AN_EPOCH, 1)))
    return max(min(batch, most), 2 * len(seen.training), 4)


def starting_recipe(seen: Seen, answers: Answers, folder: Path) -> dict[str, Any]:
    """The recipe's values. folder: where it will lie; paths are relative to it."""
    tasks, names = [], set[str]()
    takes_turns = answers.cores_only and len(seen.training) > 1  # steps are small there, as they were when measured
    shares = _quotas(seen, answers.batch, takes_turns=takes_turns)
    for file, quota in zip(seen.training, shares, strict=True):
        task = _task(file, _free_name(file.path, names), quota, folder)
        tasks.append(task)
    tree: dict[str, Any] = {
        "name": answers.name,
        "model": {"name_or_path": answers.model, "max_length": answers.max_length},
        "tasks": tasks,
        **({"loss": {"balance": "alternate"}} if takes_turns else {}),
        "training": {"epochs": answers.epochs, "learning_rate": 2.0e-5, "precision": answers.precision},
        "deepspeed": "zero0" if answers.cores_only else "zero1",
    }
    if seen.evaluation:
        tree["evaluation"] = {"data": [_relative(path, folder) for path in seen.evaluation]}
    return tree


def as_text(tree: Mapping[str, Any], seen: Seen) -> str:
    """The recipe as YAML, with what was seen as comments."""
    lines = ["# A recipe to start from, by `harness init`. Every key: docs/recipe_keys.md"]
    for file in seen.training:
        longest = int(np.quantile(file.lengths, 0.95)) if len(file.lengths) else 0
        facts = f"{file.rows_in_words} rows, 95 % of the texts within {longest} tokens, {file.script or 'no'} letters"
        lines.append(f"# {file.path.name}: {file.kind}, {facts}")
    if "loss" in tree:
        lines.append(_BALANCE)
    lines += [f"# not used: {path.name}: {reason}" for path, reason in seen.left_out]
    if not seen.evaluation:
        lines.append(
            "# No evaluation data: files called test or dev, or a BEIR folder, would be scored (docs/data.md)."
        )
    return "\n".join([*lines, dump_tree(dict(tree))])


def _task(file: SeenFile, name: str, quota: int, folder: Path) -> dict[str, Any]:
    task: dict[str, Any] = {"name": name, "kind": file.kind, "path": _relative(file.path, folder), "quota": quota}
    if file.kind == "retrieval" and file.negatives:
        task["negatives"] = {"scope": "task", "per_query": min(file.negatives, _MOST_NEGATIVES)}
    if file.kind == "classification":
        task["negatives"] = {"scope": "own", "per_query": max(1, min(file.labels - 1, _NEGATIVES_OF_LABELS))}
    return task


def _quotas(seen: Seen, batch: int, *, takes_turns: bool) -> list[int]:
    """The batch so divided that a run sees examples in proportion to the square root of a task's rows, so that a small
    one is seen, too; at least 2 of each. takes_turns: a task's turns are in proportion to its quota, as well."""
    weights = np.array([max(file.rows, 1) for file in seen.training]) ** (0.25 if takes_turns else 0.5)
    quotas = [max(2, int(batch * weight / weights.sum())) for weight in weights]
    return [min(quota, max(2, file.rows // 2)) for quota, file in zip(quotas, seen.training, strict=True)]


def _free_name(path: Path, names: set[str]) -> str:
    stem = path.name.split(".")[0]
    stem = path.parent.name if stem in ("train", "training") and path.parent.name else stem
    plain = plain_name(stem, "task", dots=False)
    name, number = plain, 2
    while name in names:
        name, number = f"{plain}_{number}", number + 1
    names.add(name)
    return name


def _relative(path: Path, folder: Path) -> str:
    return os.path.relpath(path.absolute(), folder.absolute())
