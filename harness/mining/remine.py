"""`mining.remine`: rank a task's candidates anew with the weights as they are (ANCE, arXiv 2007.00808, section 4).

Training waits; all ranks share the work. FOLDER/step-N/TASK is a bank as `harness mine` writes it, and stays as long as
a checkpoint may go on with it. One that was killed is continued if the run comes to the step with the same weights.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path
from typing import Any

from harness import comm
from harness.data.bank.file import FACTS, open_bank
from harness.data.bank.negatives import Candidates
from harness.data.plan.task import Task
from harness.data.table.index import TaskData
from harness.mining.config import RemineConfig
from harness.mining.mine import MineSettings, mine
from harness.search.encode import Encode


class Reranking:
    """Ranks, and opens what was ranked. Candidates come from the text table that the task's bank takes them from.

    encoder_of: encodes full texts as the task does, with the weights as they are. identity: what bank.json says of the
    model, its weights' hash among it; called on every rank, once per step. offset_of: rank of a task's first window.
    """

    def __init__(
        self,
        config: RemineConfig,
        folder: Path,
        encoder_of: Callable[[Task], Encode],
        identity: Callable[[], dict[str, Any]],
        offset_of: Callable[[Task], int],
    ) -> None:
        self._settings = MineSettings(
            config.candidates, config.relative, config.margin, config.index, config.index_above
        )
        self._folder, self._encoder_of, self._offset_of = folder, encoder_of, offset_of
        self._identity = cache(lambda step: identity())  # the weights change from step to step

    def __call__(self, task: Task, step: int) -> Candidates:
        """The task's candidates ranked after step `step`. Every rank calls it."""
        prompts = task.config.prompts
        ranked_by = {
            "model": f"{self._folder.parent} after step {step}",
            **self._identity(step),
            "prompts": prompts.model_dump(),
            "max_lengths": [task.query_max_length, task.document_max_length],
        }
        out = self._path(task, step)
        if comm.is_main():
            (out / FACTS).unlink(missing_ok=True)  # of a start whose checkpoint was lost
        comm.barrier()
        mine(self._encoder_of(task), task.data, self._corpus(task), self._settings, out, prompts, ranked_by)
        return self.reopen(task, step)

    def reopen(self, task: Task, step: int) -> Candidates:
        """What was ranked after step `step`.

        Raises:
            ValueError: it is not there, or not of this task's data.
        """
        return open_bank(self._path(task, step), task.data, self._corpus(task), self._offset_of(task))

    def keep(self, steps: Collection[int]) -> None:
        """Remove the banks ranked after other steps. Rank 0 only."""
        kept = {f"step-{step}" for step in steps}
        for folder in self._folder.glob("step-*"):
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def files(self, steps: Collection[int]) -> list[Path]:
        """All files of the banks ranked after these steps."""
        folders = [self._folder / f"step-{step}" for step in steps]
        return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())

    def _path(self, task: Task, step: int) -> Path:
        return self._folder / f"step-{step}" / task.config.name

    @staticmethod
    def _corpus(task: Task) -> TaskData | None:
        assert task.bank is not None
        return None if task.bank.texts is task.data else task.bank.texts
