"""What was read from the files of a task, in words and numbers: for the start of a run and for `harness plan`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePath

import numpy as np

from harness.data.config import TaskConfig
from harness.data.source.facts import FileFacts
from harness.data.source.whole import missing_shards
from harness.data.table.index import TaskData
from harness.data.table.rows.pieces import BAD_ROW
from harness.loss_table import DISTILLATION_LOSSES
from harness.prompts import Prompts
from harness.prompts.doubled import LOOKED_AT, doubled_prompt
from harness.types import ROLES

_SHOWN_COLUMNS = 12
_TEXTS_LOOKED_AT = 10_000  # among which those of each role are


def remarks(task: TaskConfig, data: TaskData) -> list[str]:
    """One line for each thing in the task's files that is not used, was left out, or is worth knowing."""
    lines = [
        *file_remarks(data, task.prompts.to_prompts()),
        *_remarks_of_retrieval(task, data),
        *_different_scales(data),
        *_classes_of_inference(data),
    ]
    return [f"task {task.name}: {line}" for line in lines]


def file_remarks(data: TaskData, prompts: Prompts) -> list[str]:
    """Columns that are not used, rows that were left out, rows that have something worth knowing, doubled prompts."""
    lines = [*_doubled_prompts(data, prompts), *missing_shards(file.path for file in data.files)]
    lines += [f"no rows in {PurePath(file.path).name}" for file in data.files if not (file.rows or file.skipped)][:3]
    if unused := _counted(file.unused for file in data.files):
        lines.append(f"columns not used: {columns(list(unused))}")
    skipped = _counted(file.skipped for file in data.files)
    del skipped[BAD_ROW]  # the start of a run warns of these with more detail
    lines += [f"left out: {rows:,} {reason}" for reason, rows in skipped.items()]
    lines += _labels_that_differ_little(data.label_names)
    lines += [f"{rows:,} {remark}" for remark, rows in _counted(file.notes for file in data.files).items()]
    return lines


def _labels_that_differ_little(names: Sequence[str]) -> list[str]:
    """That some labels are one but for case or blanks: their texts are negatives of each other."""
    spellings: dict[str, list[str]] = {}
    for name in names:
        spellings.setdefault(" ".join(name.casefold().split()), []).append(name)
    alike = [written for written in spellings.values() if len(written) > 1]
    if not alike:
        return []
    return [
        f"{len(alike):,} labels are written in several ways, which are different labels here: "
        + " and ".join(repr(name[:48]) for name in alike[0][:3])
    ]


def _doubled_prompts(data: TaskData, prompts: Prompts) -> list[str]:
    """At most three lines of first texts that begin with their prompt already, be it the task's or their row's own."""
    lines: list[str] = []
    for number, role in enumerate(ROLES):
        ids = np.flatnonzero(data.role_G[:_TEXTS_LOOKED_AT] == number)[:LOOKED_AT]
        texts: dict[str, list[str]] = {}
        for text, own in data.read_texts(ids):
            texts.setdefault(prompts.before(role, own), []).append(text)
        lines += filter(None, (doubled_prompt(of_prompt, role, prompt) for prompt, of_prompt in texts.items()))
    return lines[:3]


def _remarks_of_retrieval(task: TaskConfig, data: TaskData) -> list[str]:
    """Negatives and scores that the task's settings do not use."""
    if task.kind != "retrieval":
        return []
    lines = _unused_negatives(task, data)
    scored = sum(file.scored for file in data.files)
    if scored and not task.distillation_losses:
        losses = f"{', '.join(DISTILLATION_LOSSES[:-1])} and {DISTILLATION_LOSSES[-1]}"
        lines.append(f"{scored:,} rows have scores that are not used; the losses {losses} read them")
    return lines


def _different_scales(data: TaskData) -> list[str]:
    """That the scores of some files of one task lie within 0 to 1 and those of others do not."""
    if data.score_R is None:
        return []
    highest = [file.highest for file in data.files]
    low, high = int(np.argmin(highest)), int(np.argmax(highest))
    if not highest[low] <= 1 < highest[high]:
        return []
    names = [PurePath(data.files[i].path).name for i in (low, high)]
    return [
        f"the scores of {names[0]} go up to {highest[low]:g} and those of {names[1]} up to {highest[high]:g}, but all "
        "pairs of the task are compared with each other; bring them to one scale, or make a task of each"
    ]


def _classes_of_inference(data: TaskData) -> list[str]:
    """That scores are 0, 1 and 2 only, as the classes of natural language inference are, which are no degrees."""
    if data.score_R is None or not len(data.score_R) or data.score_R.max() != 2:  # most data end here
        return []
    values = set(np.unique(data.score_R).tolist())
    if values - {-1.0} != {0.0, 1.0, 2.0}:  # -1: no class, in SNLI
        return []
    return [
        "the scores are the numbers 0, 1 and 2 only, read as degrees: 2 is nearest. If they are classes (entailment, "
        "neutral, contradiction), keep the pairs of entailment, without the label, as kind retrieval"
    ]


def _unused_negatives(task: TaskConfig, data: TaskData) -> list[str]:
    rows = sum(count for file in data.files for number, count in file.negatives.items() if number != "0")
    if not rows or (task.negatives.per_query and task.negatives.bank is None):
        return []
    if task.negatives.bank is not None:
        return [f"{rows:,} rows have negatives that are not used; negatives.bank takes their place"]
    return [
        f"{rows:,} rows have negatives that are not used; negatives: {{per_query: N}} uses N of them for each query"
    ]


def negatives_per_row(data: TaskData) -> list[tuple[int, float, int]]:
    """For each file, the lowest, the median and the highest number of negatives in a row."""
    return [_spread({int(number): rows for number, rows in file.negatives.items()}) for file in data.files]


def _spread(rows_of_number: Mapping[int, int]) -> tuple[int, float, int]:
    """The lowest, the median and the highest of numbers that were counted."""
    if not rows_of_number:
        return 0, 0.0, 0
    number_U, count_U = (np.array(values) for values in zip(*sorted(rows_of_number.items()), strict=True))
    up_to_U = np.cumsum(count_U)
    middle = [
        int(number_U[np.searchsorted(up_to_U, place, "right")]) for place in ((up_to_U[-1] - 1) // 2, up_to_U[-1] // 2)
    ]
    return int(number_U[0]), sum(middle) / 2, int(number_U[-1])


def columns(names: Sequence[str]) -> str:
    """Names of columns for a line, at most 12 of them."""
    more = f" and {len(names) - _SHOWN_COLUMNS} more" if len(names) > _SHOWN_COLUMNS else ""
    return ", ".join(repr(name)[1:-1] for name in names[:_SHOWN_COLUMNS]) + more


def rows_left_out(facts: FileFacts) -> str:
    """The rows of a file that were left out, with the reasons."""
    return "; ".join(f"{rows:,} {reason}" for reason, rows in facts.skipped.items())


def _counted(counts: Iterable[Mapping[str, int]]) -> Counter[str]:
    """The counts of all files, added up."""
    total: Counter[str] = Counter()
    for of_file in counts:
        total.update(of_file)
    return total
