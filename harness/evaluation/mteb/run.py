"""Runs tasks one after the other on rank 0; what is finished in the results folder is not run again."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import mteb
from mteb.abstasks import AbsTask
from mteb.abstasks.aggregated_task import AbsTaskAggregate
from mteb.cache import ResultCache
from mteb.results import TaskResult

from harness.evaluation.mteb.model import ENCODE_KWARGS, EncodingError, RankedModel
from harness.evaluation.mteb.outcome import Outcome, TaskScores, number
from harness.evaluation.mteb.prompts import TaskPrompts
from harness.process.own_errors import tracebacks_are_wanted

_SHOWN_CHARACTERS = 160


class NoDataError(Exception):
    """A task's data cannot be had; one line."""


@dataclass(frozen=True, slots=True)
class Progress:
    """What is told while tasks run, on rank 0."""

    start: Callable[[str], None] = lambda name: None
    say: Callable[[str], None] = lambda line: None
    warn: Callable[[str], None] = lambda line: None


def run_tasks(
    tasks: Sequence[AbsTask],
    model: RankedModel,
    prompts: TaskPrompts,
    *,
    cache: ResultCache | None = None,
    overwrite: bool = False,
    progress: Progress = Progress(),
    keep_data: bool = False,
) -> Outcome:
    """Score every task; one without data, or on which mteb fails, leaves a line, and the others go on.

    cache: where mteb keeps finished tasks and parts of tasks; None: nowhere. overwrite: score all again. keep_data:
    leave the data loaded, for the next time.

    Raises:
        EncodingError: embeddings that are not finite.
    """
    scored, problems = [], {}
    for task in tasks:
        earlier = None if overwrite else _finished(task, model, cache, progress)
        try:
            result = earlier or _run(task, model, cache, overwrite, progress, keep_data)
        except EncodingError:
            raise
        except Exception as error:
            problems[task.metadata.name] = line = _problem(task.metadata.name, error)
            progress.warn(line)
        else:
            scored.append(_scores(task, result, prompts))
    return Outcome(scored, problems)


def _problem(name: str, error: Exception) -> str:
    """Why a task has no scores; with HARNESS_DEBUG an error inside mteb is raised."""
    if isinstance(error, NoDataError):
        return str(error)
    if tracebacks_are_wanted():
        raise error
    return f"{name}: mteb ended with {type(error).__name__}: {_short(error)}; HARNESS_DEBUG=1 shows where"


def _finished(task: AbsTask, model: RankedModel, cache: ResultCache | None, progress: Progress) -> TaskResult | None:
    """The scores of an earlier start, if they are whole and of the same data. A file that a kill has left half written
    is removed."""
    if cache is None:
        return None
    name, meta = task.metadata.name, model.mteb_model_meta
    path = cache.get_task_result_path(name, meta)
    if not path.is_file():
        return None
    try:
        found = TaskResult.from_disk(path)
    except (ValueError, KeyError, TypeError):  # no JSON, or not of mteb's form; a file that cannot be opened stays
        progress.warn(f"{name}: {path} is damaged, as a kill while it was written leaves it; it is scored again")
        path.unlink()
        return None
    if found.get_missing_evaluations(task):
        return None  # mteb scores what is missing, or all anew if the data has another revision now
    if not found.is_mergeable(task):
        progress.warn(
            f"{name}: the scores in {path} are of revision {found.dataset_revision} of its data, which has revision "
            f"{task.metadata.revision} now; it is scored again"
        )
        path.unlink()
        return None
    progress.say(f"{name}: has its scores already")
    return found


def _run(
    task: AbsTask,
    model: RankedModel,
    cache: ResultCache | None,
    overwrite: bool,
    progress: Progress,
    keep_data: bool,
) -> TaskResult:
    progress.start(task.metadata.name)
    started = time.monotonic()
    load_data(task)
    strategy = "always" if overwrite else "only-missing"
    found = mteb.evaluate(
        model, task, cache=cache, overwrite_strategy=strategy, encode_kwargs=ENCODE_KWARGS.copy(),
        show_progress_bar=False, co2_tracker=False,
    )  # fmt: skip
    if not keep_data:
        for part in _leaves(task):
            part.unload_data()
    (result,) = found.task_results
    if cache is not None:
        progress.say(f"{task.metadata.name}: {time.monotonic() - started:.0f} s")
    return result


def load_data(task: AbsTask) -> None:
    """Load a task's data, if it is not there.

    Raises:
        NoDataError: it cannot be had.
    """
    for part in _leaves(task):
        if part.data_loaded:
            continue
        path = str(part.metadata.dataset["path"])
        try:
            part.load_data()
        except Exception as error:
            raise NoDataError(
                f"{task.metadata.name}: its data ({path}) cannot be had ({_short(error)}); {_way_to_data()}"
            ) from error


def _way_to_data() -> str:
    if os.environ.get("HF_HUB_OFFLINE", "0").upper() in ("1", "ON", "YES", "TRUE"):
        return (
            "HF_HUB_OFFLINE is set, so only data in the cache (HF_HOME) is read: fetch it where the hub is reached, "
            "or give a folder that holds ORG/NAME"
        )
    return (
        "connect to the hub, or fetch it elsewhere and give a folder that holds ORG/NAME; HF_HUB_OFFLINE=1 reads the "
        "cache (HF_HOME) without asking the hub"
    )


def _leaves(task: AbsTask) -> Iterator[AbsTask]:
    if isinstance(task, AbsTaskAggregate):
        for part in task.metadata.tasks:
            yield from _leaves(part)
    else:
        yield task


def _scores(task: AbsTask, result: TaskResult, prompts: TaskPrompts) -> TaskScores:
    """Of the splits and subsets that the task was narrowed to: the file may hold those of an earlier start, too."""
    metadata = task.metadata
    asked = result.validate_and_filter_scores(task)
    try:
        score = number(float(asked.get_score()))
    except (KeyError, TypeError, ValueError):
        score = None
    by_split = {split: [dict(row) for row in rows] for split, rows in asked.scores.items()}
    return TaskScores(
        metadata.name, str(metadata.type), metadata.main_score, score, by_split, prompts.of_task(metadata)
    )


def _short(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + " ..."


def instructions_of(tasks: Sequence[AbsTask]) -> dict[str, str]:
    """What mteb tells a model to do in tasks of each kind, where it says nothing of the task itself."""
    found: dict[str, Any] = {task.metadata.name: getattr(task, "abstask_prompt", None) for task in tasks}
    return {name: text for name, text in found.items() if text}
