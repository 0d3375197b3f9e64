"""What FlagEmbedding's trainer takes from its data: which files are one data set, and settings that stand in rows.

Source: FlagEmbedding/abc/finetune/embedder/AbsDataset.py (1.4.0): `AbsEmbedderTrainDataset` joins all files, and reads
the prompt of a row only beside an instruction; `AbsEmbedderSameDatasetTrainDataset` (`same_dataset_within_batch`) has a
data set per file, and reads `type` and `batch_size`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from harness.conversion.arguments.table import Remark
from harness.conversion.look import ROWS_LOOKED_AT, rows_that_are_read
from harness.data.source.columns.foreign import FLAG_EMBEDDING_SETTINGS
from harness.data.source.config import without_batch_negatives
from harness.data.source.files import Row

_SUFFIXES = (".json", ".jsonl")  # what it reads of a folder
_PROMPT_ON_BOTH_SIDES = ("symmetric_sts", "symmetric_clustering")
Heads = Mapping[str, Sequence[Row]]  # file → its first rows; a file that is not here has none


@dataclass(frozen=True, slots=True)
class FlagSet:
    """The files of one task. own: its folder's or file's name says that other queries' documents are no negatives.
    split: FlagEmbedding has it in one data set with other files."""

    files: tuple[str, ...]
    own: bool = False
    split: bool = False


def flag_sets(known: Mapping[str, Any], paths: Sequence[str]) -> tuple[list[FlagSet], Heads]:
    """The data sets, and the first rows of their files.

    One set of all files; a set per file with `same_dataset_within_batch`, and where rows have prompts of their own that
    stand in a format, because a task has one prompt.
    """
    of_path = {path: _files(path) for path in paths}
    heads = {file: _head(file) for files in of_path.values() for file in files}
    has_prompts = any("prompt" in row for rows in heads.values() for row in rows)
    if known.get("same_dataset_within_batch"):
        marked = [path for path in paths if without_batch_negatives(path) is not None]
        return [FlagSet((file,), own=path in marked) for path, files in of_path.items() for file in files], heads
    together = tuple(file for files in of_path.values() for file in files)
    if has_prompts and _instructed(known) and _formats(known) and len(together) > 1:
        return [FlagSet((file,), split=True) for file in together], heads
    return [FlagSet(together)], heads


def scope_of(data: FlagSet, known: Mapping[str, Any], remarks: list[Remark]) -> dict[str, str]:
    """`negatives.scope`, where it is not the default."""
    if data.own:
        return {"scope": "own"}
    if not known.get("same_dataset_within_batch") and data.split:
        return {"scope": "step"}  # their batch holds rows of all files
    if without_batch_negatives(data.files) is None:
        return {}
    why = "without same_dataset_within_batch FlagEmbedding takes no notice of no_in_batch_neg in names"
    remarks.append(Remark("train_data", ", ".join(data.files), "differs", "tasks.NAME.negatives.scope", why))
    return {"scope": "task"}


def instructions(known: Mapping[str, Any]) -> dict[str, str]:
    """`prompts`: the instructions in their formats."""
    prompts = {}
    for side, role in (("query", "query"), ("passage", "document")):
        instruction = known.get(f"{side}_instruction_for_retrieval")
        if isinstance(instruction, str) and instruction:
            prompts[role] = _in_format(_template(known, side), instruction, side)
    return prompts


def with_settings_of_rows(task: dict[str, Any], data: FlagSet, heads: Heads, known: Mapping[str, Any]) -> list[Remark]:
    """Give a task what the rows of its files say, and leave out the columns that said it.

    Raises:
        ValueError: the rows of a file have several prompts where FlagEmbedding would put each into a format.
    """
    rows = [row for file in data.files for row in heads.get(file, ())]
    ignored = [name for name in FLAG_EMBEDDING_SETTINGS if any(name in row for row in rows)]
    remarks: list[Remark] = []
    if known.get("same_dataset_within_batch") and rows:
        _type_of_rows(task, rows[0], remarks)
        has_scores = all(row.get("pos_scores") and row.get("neg_scores") for row in rows)
        if known.get("knowledge_distillation") and not has_scores:
            task.pop("loss", None)
            why = "its rows have no scores: info_nce alone, as there"
            remarks.append(Remark("knowledge_distillation", data.files[0], "differs", "tasks.NAME.loss", why))
    if any("prompt" in row for row in rows):
        ignored += _prompts_of_rows(task, data, rows[0], known, remarks)
    if ignored:
        task["columns"] = {"ignore": ignored}
    return remarks


def _type_of_rows(task: dict[str, Any], row: Row, remarks: list[Remark]) -> None:
    """`type` and `batch_size` of a file's rows, which are the same in all of them."""
    kind, batch = str(row.get("type")), row.get("batch_size")
    most = task["negatives"].get("per_query", 0)
    if kind == "only_1neg":
        task["negatives"]["per_query"] = min(1, most)
    if kind == "symmetric_class":
        task["negatives"]["per_query"] = min(len(row.get("neg") or ()), most)
    if kind in _PROMPT_ON_BOTH_SIDES:
        task["prompts"] = {"query": (before := task.get("prompts", {}).get("query", "")), "document": before}
    if batch is not None or "symmetric" in kind:
        size = f"of {batch} a GPU" if batch is not None else "of half the size"
        why = f"batches {size} there; here every step has data.batch examples, whatever its task"
        argument, value = ("batch_size", batch) if batch is not None else ("type", kind)
        remarks.append(Remark(f"{task['name']}: {argument}", value, "differs", "data.batch", why))


def _prompts_of_rows(
    task: dict[str, Any], data: FlagSet, row: Row, known: Mapping[str, Any], remarks: list[Remark]
) -> list[str]:
    """The columns that are no longer to be read, after the rows' own prompts have become the task's."""
    both = known.get("same_dataset_within_batch") and row.get("type") in _PROMPT_ON_BOTH_SIDES
    if not known.get("same_dataset_within_batch") and not _instructed(known):
        why = (
            "without query_instruction_for_retrieval FlagEmbedding leaves the rows' prompts out, and so does the recipe"
        )
        remarks.append(Remark("prompt", ", ".join(data.files), "differs", "tasks.NAME.columns", why))
        return ["prompt"]
    if not both and not _formats(known):
        return []  # the row's text before the query, here as there
    found = _distinct_prompts(data.files)
    if len(found) > 1:
        raise ValueError(
            f"{', '.join(data.files)}: prompt: got {len(found)} or more different texts, which FlagEmbedding puts into "
            f"query_instruction_format {'and before documents, too' if both else _template(known)!r}, expected one; "
            "split the file by prompt, or write the formatted text into the rows and leave the format out"
        )
    prompt = _in_format(_template(known), next(iter(found)) or "", "query")
    task["prompts"] = {**task.get("prompts", {}), "query": prompt, **({"document": prompt} if both else {})}
    why = f"all rows have {next(iter(found))!a}: written out in its format"
    remarks.append(Remark("prompt", ", ".join(data.files), "differs", "tasks.NAME.prompts", why))
    return ["prompt"]


def _in_format(template: str, instruction: str, side: str) -> str:
    """The prompt that an instruction gives in FlagEmbedding's format.

    Raises:
        ValueError: there is text after the place of the query or passage.
    """
    before, _, after = template.partition("{}")
    middle, _, rest = after.partition("{}")
    if rest:
        raise ValueError(
            f"{side}_instruction_format: got {template!r}, which has text after the {side}, expected none; a "
            "prompt stands before its text"
        )
    return before + instruction + middle


def _template(known: Mapping[str, Any], side: str = "query") -> str:
    return str(known.get(f"{side}_instruction_format", "{}{}")).replace("\\n", "\n")


def _formats(known: Mapping[str, Any]) -> bool:
    return _template(known) != "{}{}"


def _instructed(known: Mapping[str, Any]) -> bool:
    return known.get("query_instruction_for_retrieval") is not None


def _files(path: str) -> list[str]:
    """The files that FlagEmbedding reads of a path: of a folder all of .json and .jsonl, whatever their names."""
    if not Path(path).is_dir():
        return [path]
    found = [str(file) for file in sorted(Path(path).iterdir()) if file.name.endswith(_SUFFIXES)]
    if not found:
        raise ValueError(f"{path}: got a folder without {' or '.join(_SUFFIXES)} files, expected the data in it")
    return found


def _head(file: str) -> list[Row]:
    return list(islice(rows_that_are_read(file), ROWS_LOOKED_AT)) if Path(file).is_file() else []


def _distinct_prompts(files: Sequence[str]) -> set[str | None]:
    """The prompts of all rows; after two different ones no more are looked for."""
    found: set[str | None] = set()
    for file in files:
        for row in rows_that_are_read(file):
            found.add(row.get("prompt"))
            if len(found) > 1:
                return found
    return found
