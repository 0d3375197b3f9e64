"""Tasks of mteb that are scored while a model is trained: found and loaded at the start, scored at their steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import rank0
from harness.evaluation.config import MtebConfig
from harness.evaluation.mteb.available import require_mteb, unchanged_process
from harness.evaluation.mteb.outcome import PREFIX, Outcome
from harness.evaluation.mteb.ranks import Ask, Ranks, together
from harness.evaluation.runner import Results
from harness.prompts import ModelPrompts
from harness.search.encode import TextEncoder
from harness.waits import waits

if TYPE_CHECKING:
    from mteb.abstasks import AbsTask

KNOB = "evaluation.mteb"


@dataclass(frozen=True, slots=True)
class MtebTasks:
    """The tasks of `evaluation.mteb`. Every rank must open it and call its methods; only rank 0 imports mteb.

    metrics: mteb/TASK → the main metric. facts: of each task, as run.json holds those of evaluation data.
    """

    metrics: dict[str, str]
    facts: list[dict[str, Any]]
    prompts: ModelPrompts
    _tasks: list[AbsTask] = field(repr=False)  # empty on the other ranks

    @classmethod
    def opened(cls, settings: MtebConfig, data: str | None, prompts: ModelPrompts) -> MtebTasks:
        """Find the tasks by their names; their data is not loaded. data: the folder of `settings.data`, resolved.

        Raises:
            ValueError: mteb is not installed, or has no such task or language.
        """
        held: list[AbsTask] = []

        def find() -> list[dict[str, Any]]:
            require_mteb(KNOB)
            with unchanged_process():
                from harness.evaluation.mteb.select import Selection, selected_tasks

                folder = None if data is None else Path(data)
                knobs = {"knob": f"{KNOB}.tasks", "language_knob": f"{KNOB}.languages"}
                held[:] = selected_tasks(Selection(None, settings.tasks, settings.languages, None, folder, **knobs))
                return _facts(held, prompts)

        facts = rank0.by_main(find)
        return cls({fact["name"]: fact["metric"] for fact in facts}, facts, prompts, held)

    @waits.may_take_long()
    def load(self) -> None:
        """Load the data of all tasks, so that a run does not find out at its first evaluation that it is not there.

        Raises:
            ValueError: the data of a task cannot be had.
        """

        def load() -> None:
            with unchanged_process():
                from harness.evaluation.mteb.run import NoDataError, load_data

                for task in self._tasks:
                    try:
                        load_data(task)
                    except NoDataError as error:
                        raise ValueError(f"{KNOB}.tasks: {error}, as {KNOB}.data") from None

        rank0.by_main(load)

    @waits.may_take_long()
    def scores(self, encode: TextEncoder, *, normalize: bool, warn: Callable[[str], None]) -> Results:
        """`{mteb/TASK: {main metric: value}}` of the current weights; NaN if mteb gives none. Every rank must call it.

        normalize: whether the exported folder gives embeddings of length 1.
        """

        def work(ask: Ask) -> Outcome:
            with unchanged_process():
                from harness.evaluation.mteb.model import RankedModel
                from harness.evaluation.mteb.prompts import TaskPrompts
                from harness.evaluation.mteb.run import Progress, run_tasks

                prompts = TaskPrompts(self.prompts)
                model = RankedModel(ask, prompts, _meta())
                return run_tasks(self._tasks, model, prompts, progress=Progress(warn=warn), keep_data=True)

        found = together(work, Ranks(encode, normalize=normalize)).results()
        return {name: found.get(name, {metric: float("nan")}) for name, metric in self.metrics.items()}


def _facts(tasks: list[AbsTask], prompts: ModelPrompts) -> list[dict[str, Any]]:
    from harness.evaluation.mteb.prompts import TaskPrompts

    return [
        {
            "name": PREFIX + task.metadata.name,
            "path": str(task.metadata.dataset.get("path")),
            "revision": task.metadata.dataset.get("revision"),
            "kind": f"mteb {task.metadata.type}",
            "metric": task.metadata.main_score,
            "prompts": TaskPrompts(prompts).of_task(task.metadata),
        }
        for task in tasks
    ]


def _meta() -> Any:
    from mteb.models import ModelMeta
    from mteb.models.model_meta import ScoringFunction

    return ModelMeta.create_empty({"similarity_fn_name": ScoringFunction.COSINE})
