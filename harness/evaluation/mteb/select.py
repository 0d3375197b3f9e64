"""From names on the command line or in a recipe to mteb's tasks; mistakes are found before a model is loaded."""

from __future__ import annotations

import copy
import importlib.util
import sys
from dataclasses import dataclass
from inspect import isabstract
from pathlib import Path
from typing import Any

import mteb
from mteb.abstasks import AbsTask
from mteb.abstasks.aggregated_task import AbsTaskAggregate
from mteb.benchmarks.get_benchmark import _build_aliases_registry, _build_registry
from mteb.get_tasks import _TASK_RENAMES, _TASKS_REGISTRY
from mteb.languages import check_language_code

from harness.settings.recipe_file import did_you_mean


@dataclass(frozen=True, slots=True)
class Selection:
    """What a user asks for. knob, language_knob: how messages call the settings."""

    benchmark: str | None = None
    tasks: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    task_file: Path | None = None
    data: Path | None = None
    knob: str = "--tasks"
    language_knob: str = "--language"


def selected_tasks(selection: Selection) -> list[AbsTask]:
    """The tasks, each once, in the order in which they are named; with `data`, read from there where it has them.

    Raises:
        ValueError: no such benchmark, task or language, or a task that is not of texts; one line.
    """
    _check_languages(selection)
    own = _tasks_of_file(selection.task_file) if selection.task_file is not None else {}
    tasks = _tasks_of_benchmark(selection.benchmark) if selection.benchmark is not None else []
    names = selection.tasks or (() if selection.benchmark else tuple(own))
    tasks += [_task(name, own, selection.knob) for name in names]
    if not tasks:
        raise ValueError(f"{selection.knob}: got no task, expected at least one, or a --benchmark")
    by_name = {task.metadata.name: copy.copy(task) for task in tasks}
    kept = [_prepared(task, selection.data) for task in by_name.values() if _is_kept(task, selection)]
    if not kept:
        codes = ", ".join(selection.languages)
        raise ValueError(f"{selection.language_knob}: got {codes}, which no task of {selection.benchmark} has")
    return kept


def _check_languages(selection: Selection) -> None:
    for code in selection.languages:
        try:
            check_language_code(code)
        except ValueError:
            raise ValueError(
                f"{selection.language_knob}: got {code}, expected the three letters of ISO 639-3, alone or with a "
                "script, as in eng, cmn or cmn-Hans"
            ) from None


def _tasks_of_benchmark(name: str) -> list[AbsTask]:
    known = {**_build_registry(), **_build_aliases_registry()}
    if name not in known:
        raise ValueError(
            f"--benchmark: got {name!r}, expected one of mteb {mteb.__version__}'s benchmarks, such as "
            f"'MTEB(cmn, v1)'{did_you_mean(name, known)}"
        )
    return list(known[name].tasks)


def _task(name: str, own: dict[str, AbsTask], knob: str) -> AbsTask:
    name = name if name in own else _TASK_RENAMES.get(name, name)
    if name in own:
        return own[name]
    if name not in _TASKS_REGISTRY:
        hint = did_you_mean(name, [*own, *_TASKS_REGISTRY])
        raise ValueError(f"{knob}: got {name}, expected the name of a task of mteb {mteb.__version__}{hint}")
    return _TASKS_REGISTRY[name]()


def _tasks_of_file(file: Path) -> dict[str, AbsTask]:
    """The tasks that a Python file defines. Runs the file."""
    spec = importlib.util.spec_from_file_location("tasks_of_the_user", file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise ValueError(f"--task-file: got {file}, expected a Python file (.py) that defines tasks of mteb")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(f"--task-file: {file} does not run: {type(error).__name__}: {_line(error)}") from error
    classes = [value for value in vars(module).values() if _is_task_of(value, spec.name)]
    if not classes:
        raise ValueError(
            f"--task-file: got {file}, which defines no task, expected a subclass of mteb's AbsTask classes"
        )
    return {task.metadata.name: task() for task in classes}


def _is_task_of(value: Any, module: str) -> bool:
    is_task = isinstance(value, type) and issubclass(value, AbsTask) and value.__module__ == module
    return is_task and not isabstract(value) and hasattr(value, "metadata")


def _is_kept(task: AbsTask, selection: Selection) -> bool:
    """Whether the task has one of the languages; narrows it to them."""
    name = task.metadata.name
    if "text" not in task.metadata.modalities or len(task.metadata.modalities) > 1:
        raise ValueError(
            f"{selection.knob}: got {name}, a task of {', '.join(task.metadata.modalities)}, expected one of texts only"
        )
    if not selection.languages:
        return True
    try:
        task.filter_languages(list(selection.languages))
        return True
    except ValueError:
        if name not in selection.tasks:
            return False  # of a benchmark, the tasks of these languages are meant
        available = sorted({code for codes in task.metadata.hf_subsets_to_langscripts.values() for code in codes})
        raise ValueError(
            f"{selection.language_knob}: got {', '.join(selection.languages)}, but {name} has {', '.join(available)}; "
            "leave it out, or name one of these"
        ) from None


def _prepared(task: AbsTask, data: Path | None) -> AbsTask:
    """The task, with the folder in `data` in place of its data set on the hub, if it is there."""
    if data is None:
        return task
    if isinstance(task, AbsTaskAggregate):
        parts = [_prepared(copy.copy(part), data) for part in task.metadata.tasks]
        task.metadata = task.metadata.model_copy(update={"tasks": parts})
        return task
    path = data / str(task.metadata.dataset["path"])
    if path.is_dir():
        task.metadata = task.metadata.model_copy(update={"dataset": {**task.metadata.dataset, "path": str(path)}})
    return task


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
