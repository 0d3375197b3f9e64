"""Ends a run early: when a signal asks for it, or with a helpful message when a loss or gradient is not finite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from harness import comm
from harness.data.plan.task import Task, text_sources
from harness.engine.checkpoint import checkpoint_name
from harness.engine.guard import NonFiniteError
from harness.process import stop_request
from harness.process.stop_request import STOP_FILE, StopAskedError
from harness.run.folder import RunFolder
from harness.run.run import Run
from harness.run.save import save_checkpoint

_OVERFLOW = ", or set training.precision: bf16, because fp16 ends at 65,504"


def save_and_stop_if_asked(run: Run, folder: RunFolder, step: int) -> None:
    """If a signal has asked any rank to stop, or the file .stop, save the state and stop. Every rank must call it.

    Raises:
        StopAskedError: on every rank, after the same step.
    """
    name = stop_request.asked()
    if name is None and comm.is_main() and (folder.path / STOP_FILE).exists():
        name = f"the file {STOP_FILE}"
    if not comm.on_any_rank(name is not None):
        return
    saved = save_checkpoint(run, folder, step)
    names = [name for name in comm.gather_objects(name) if name is not None]
    raise StopAskedError(names[0], f"step {step} is saved in {saved}")


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
