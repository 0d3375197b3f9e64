"""Ends a run with a helpful message when a loss or gradient is not finite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from harness.data.plan.task import Task, text_sources
from harness.engine.checkpoint import checkpoint_name
from harness.engine.guard import NonFiniteError
from harness.run.folder import RunFolder
from harness.run.run import Run
from harness.run.save import save_checkpoint

_OVERFLOW = ", or set training.precision: bf16, because fp16 ends at 65,504"


@contextmanager
def explain_non_finite(run: Run, folder: RunFolder) -> Iterator[None]:
    """If a step raises NonFiniteError, save the weights from before this step and name the texts concerned.

    Raises:
        ValueError: instead of NonFiniteError, on every rank.
    """
    try:
        yield
    except NonFiniteError as error:
        step, weights = error.plan.step, ""
        if step > 1:
            before = folder.checkpoints.folder / checkpoint_name(step - 1)
            if not before.exists():
                save_checkpoint(run, folder, step - 1)
            weights = f"; the weights before this step are in {before}"
        raise ValueError(
            f"step {step}: {error.what} is not finite (task {', '.join(error.tasks)}; texts "
            f"{_named_texts(run.tasks, error)}){weights}; look at these texts, or lower training.learning_rate or "
            f"training.max_grad_norm{_OVERFLOW if run.config.training.precision == 'fp16' else ''}"
        ) from error


def _named_texts(tasks: Sequence[Task], error: NonFiniteError) -> str:
    """FILE:LINE of each text that the error names, and the number of further texts concerned."""
    sources, texts = text_sources(tasks), error.plan.texts
    places = [sources[texts.source_T[row]].data.location(int(texts.text_T[row])) for row in error.text_rows]
    more = f" and {error.num_texts - len(places)} more" if error.num_texts > len(places) else ""
    return f"{', '.join(places)}{more}"
