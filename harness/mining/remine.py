"""`mining.remine`: ranks a task's candidates again with the current weights (ANCE, arXiv 2007.00808, section 4).

Training waits while all ranks search. FOLDER/step-N/TASK is a bank in the format of `harness mine`; it stays on disk as
long as training or a checkpoint may need it. If the run is killed during a search and reaches the same step again with
the same weights, the search is continued.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import comm, rank0
from harness.data.bank.file import FACTS, FILES, check_bank, open_bank
from harness.data.bank.negatives import Candidates
from harness.data.plan.task import Task
from harness.data.table.index import TaskData
from harness.engine.checkpoint import kept_states
from harness.mining.config import RemineConfig
from harness.mining.mine import MineSettings, mine
from harness.search.embeddings import Progress
from harness.search.encode import Encode
from harness.waits import waits


@dataclass(frozen=True, slots=True)
class Reranking:
    """Ranks the candidates of tasks, and opens and removes these rankings.

    A new ranking takes its candidates from the same text table as the task's first bank.
    """

    config: RemineConfig
    folder: Path  # of the rankings
    checkpoints: Path  # folder of the checkpoints; the rankings that they need are kept
    encoder_of: Callable[[Task], Encode]  # an encoder with the current weights for texts that start with their prompts
    # Describes the model for bank.json, with a hash of its weights. Every rank must call it.
    identity: Callable[[], dict[str, Any]]
    offset_of: Callable[[Task], int]  # rank of the first candidate that a task uses
    progress_of: Callable[[Task], Progress]  # shows how far a task's ranking is

    @waits.may_take_long()
    def __call__(self, tasks: Sequence[Task], step: int) -> dict[str, Candidates]:
        """The candidates of each task, by task name, ranked after the step number `step`. Every rank must call this."""
        identity = self.identity()  # computed for every ranking, because the weights have changed
        return {task.config.name: self._rank(task, step, identity) for task in tasks}

    def _rank(self, task: Task, step: int, identity: dict[str, Any]) -> Candidates:
        prompts = task.config.prompts.to_prompts()
        ranked_by = {
            "model": f"{self.folder.parent} after step {step}",
            **identity,
            "prompts": prompts.for_pairs(),
            "max_lengths": [task.query_max_length, task.document_max_length],
        }
        settings = MineSettings(
            self.config.candidates, self.config.relative, self.config.margin, self.config.index, self.config.index_above
        )
        out = self._path(task, step)
        # If an earlier start finished this bank but its checkpoint was lost, the bank is computed again.
        rank0.by_main(lambda: (out / FACTS).unlink(missing_ok=True))
        progress = self.progress_of(task)
        mine(self.encoder_of(task), task.data, _corpus(task), settings, out, prompts, ranked_by, progress)
        return self.reopen(task, step)

    def reopen(self, task: Task, step: int) -> Candidates:
        """Load from disk the task's candidates that were ranked after the step number `step`.

        Raises:
            ValueError: the bank does not exist, is damaged, or belongs to other data.
        """
        for name in FILES:  # rank 0 has written them, maybe a moment ago on another host
            rank0.wait_until_visible(self._path(task, step) / name)
        check_bank(self._path(task, step))
        return open_bank(self._path(task, step), task.data, _corpus(task), self.offset_of(task))

    def keep(self, steps: Collection[int]) -> None:
        """Remove all rankings except those after `steps` and those that a checkpoint needs. Only rank 0 does this."""
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
    """The text table of a task's candidates; None if the candidates are in the table of the task's rows."""
    assert task.bank is not None
    return None if task.bank.texts is task.data else task.bank.texts
