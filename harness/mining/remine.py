"""`mining.remine`: rank a task's candidates anew with the weights as they are (ANCE, arXiv 2007.00808, section 4).

Training waits while all ranks search. FOLDER/step-N/TASK is a bank as `harness mine` writes it; it stays on disk while
training or a checkpoint may need it. If the run is killed during a search and comes to the same step again with the
same weights, the search goes on where it was.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import comm, rank0
from harness.data.bank.file import FACTS, open_bank
from harness.data.bank.negatives import Candidates
from harness.data.plan.task import Task
from harness.data.table.index import TaskData
from harness.engine.checkpoint import kept_states
from harness.mining.config import RemineConfig
from harness.mining.mine import MineSettings, mine
from harness.search.encode import Encode


@dataclass(frozen=True, slots=True)
class Reranking:
    """Ranks the candidates of tasks, and opens and removes what it has ranked.

    A task's candidates come from the text table that its first bank takes them from.
    """

    config: RemineConfig
    folder: Path  # of the rankings
    checkpoints: Path  # folder of the checkpoints, whose rankings are kept
    encoder_of: Callable[[Task], Encode]  # encodes texts with their prompts before them, with the weights as they are
    identity: Callable[[], dict[str, Any]]  # what bank.json says of the model, with a hash of its weights; a collective
    offset_of: Callable[[Task], int]  # rank of the first candidate that a task uses

    def __call__(self, tasks: Sequence[Task], step: int) -> dict[str, Candidates]:
        """The candidates of each task by its name, ranked after step `step`. Every rank calls it."""
        identity = self.identity()  # taken at every ranking: the weights have changed since the last one
        return {task.config.name: self._rank(task, step, identity) for task in tasks}

    def _rank(self, task: Task, step: int, identity: dict[str, Any]) -> Candidates:
        prompts = task.config.prompts
        ranked_by = {
            "model": f"{self.folder.parent} after step {step}",
            **identity,
            "prompts": prompts.model_dump(),
            "max_lengths": [task.query_max_length, task.document_max_length],
        }
        settings = MineSettings(
            self.config.candidates, self.config.relative, self.config.margin, self.config.index, self.config.index_above
        )
        out = self._path(task, step)
        # An earlier start may have finished this bank; its checkpoint was lost, so it is made again.
        rank0.by_main(lambda: (out / FACTS).unlink(missing_ok=True))
        mine(self.encoder_of(task), task.data, _corpus(task), settings, out, prompts, ranked_by)
        return self.reopen(task, step)

    def reopen(self, task: Task, step: int) -> Candidates:
        """The task's candidates that were ranked after step `step`, from disk.

        Raises:
            ValueError: they are not there, or not of this task's data.
        """
        return open_bank(self._path(task, step), task.data, _corpus(task), self.offset_of(task))

    def keep(self, steps: Collection[int]) -> None:
        """Remove the rankings after all steps but these and those that a checkpoint names. Rank 0 does it."""
        if not comm.is_main():
            return
        saved = (state.get("rankings", []) for state in kept_states(self.checkpoints))
        names = {f"step-{step}" for step in set(steps).union(*saved)}
        for folder in self.folder.glob("step-*"):
            if folder.name not in names:
                shutil.rmtree(folder, ignore_errors=True)

    def files(self, steps: Collection[int]) -> list[Path]:
        """All files of the rankings after these steps."""
        folders = [self.folder / f"step-{step}" for step in steps]
        return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())

    def _path(self, task: Task, step: int) -> Path:
        return self.folder / f"step-{step}" / task.config.name


def _corpus(task: Task) -> TaskData | None:
    """The table of a task's candidates, if it is another one than that of its rows."""
    assert task.bank is not None
    return None if task.bank.texts is task.data else task.bank.texts
