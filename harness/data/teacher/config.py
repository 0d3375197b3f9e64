"""The recipe's `tasks.NAME.teacher_vectors`: .npy files with a teacher's vectors of the task's texts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.loss_table import LOSSES
from harness.settings.section import Section

if TYPE_CHECKING:
    from harness.data.config import TaskConfig


class TeacherVectorsConfig(Section):
    """A .npy file for each side, with one vector for every text of this side in the order of the data.

    query: of the queries; row r is the vector of the r-th row's query. positive: of all positives, those of the first
    row, of the second row, and so on. negative: of all listed negatives, likewise; without it, negatives have none.
    """

    query: str
    positive: str
    negative: str | None = None

    @property
    def files(self) -> dict[str, str]:
        """Side → file, of the sides that have one."""
        return {side: file for side, file in self.model_dump().items() if file is not None}


def check_teacher(task: TaskConfig) -> None:
    """Check that a task has a teacher's vectors exactly if a loss of it needs them.

    Raises:
        ValueError: it does not, or negatives with vectors are not those of the data.
    """
    needing = [name for name in task.losses if LOSSES[name].needs_teacher_vectors]
    key, vectors = f"tasks.{task.name}.teacher_vectors", task.teacher_vectors
    if needing and vectors is None:
        raise ValueError(
            f"{key}: got none with loss {needing[0]}, expected the .npy files of the teacher's vectors, "
            "{query: FILE, positive: FILE}; add the key"
        )
    if vectors is None:
        return
    if not needing:
        taking = [name for name, entry in LOSSES.items() if entry.needs_teacher_vectors]
        raise ValueError(
            f"{key}: got it with loss {', '.join(task.losses)}, expected it with {' or '.join(taking)} only; remove "
            "the key, or add one of these losses"
        )
    if vectors.negative is None:
        return
    if task.negatives.bank is not None:
        raise ValueError(
            f"{key}.negative: got {vectors.negative} with negatives.bank {task.negatives.bank}, expected the negatives "
            "of the data, whose vectors these are; remove one of them"
        )
    if not task.negatives.per_query:
        raise ValueError(
            f"{key}.negative: got {vectors.negative} with negatives.per_query 0, expected at least 1; raise "
            "per_query, or remove the key"
        )
