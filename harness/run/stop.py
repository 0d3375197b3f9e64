"""Ends a run early: when a signal asks for it, or with a helpful message when a loss or gradient is not finite."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from harness import comm, rank0
from harness.data.plan.task import Task, text_sources
from harness.engine.checkpoint import checkpoint_name
from harness.engine.guard import NonFiniteError
from harness.process import stop_request
from harness.process.stop_request import STOP_FILE, StopAskedError
from harness.report.messages import say
from harness.run.callbacks.observers import Observers
from harness.run.folder import RunFolder
from harness.run.run import Run
from harness.run.save import save_checkpoint

_OVERFLOW = ", or set training.precision: bf16, because fp16 ends at 65,504"


def stop_if_asked(run: Run, folder: RunFolder, observers: Observers, step: int) -> None:
    """Save the state and stop if a signal or the file .stop has asked any rank to. Every rank must call it.

    If a callback of any rank has asked to end the run, this step is made the last one.

    Raises:
        StopAskedError: on every rank, after the same step.
    """
    name = stop_request.asked()
    if name is None and comm.is_main() and (folder.path / STOP_FILE).exists():
        name = f"the file {STOP_FILE}"
    observers.end_if_asked(step)
    if not comm.on_any_rank(name is not None):
        return
    saved = save_checkpoint(run, folder, step)
    observers.checkpoint(step, saved)
    names = [name for name in comm.gather_objects(name) if name is not None]
    raise StopAskedError(names[0], f"step {step} is saved in {saved}")


def end_if_no_better(run: Run, folder: RunFolder, step: int) -> None:
    """Make this step the last one if `evaluation.early_stopping` says so. Every rank must call it after an evaluation.

    The recorded scores up to this step are judged, so that a run that was killed in between ends at the same step.
    """
    evaluation = run.config.evaluation
    if evaluation.early_stopping is None or run.ending.step is not None:
        return
    reason = rank0.by_main(lambda: folder.reason_to_end(step))
    if reason is not None and step < run.last_step:
        run.ending.decide(step, reason, by_rule=True)
        say(f"the run ends after step {step}: {reason}")


@contextmanager
def explain_non_finite(run: Run, folder: RunFolder) -> Iterator[None]:
    """If a step raises NonFiniteError, keep the weights from before this step aside and name the texts concerned.

    They are finite, but may be useless, so no later start continues from them by itself.

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
                before = save_checkpoint(run, folder, step - 1, is_aside=True)
            weights = f"; the weights before this step are in {before}"
        back = ", and go back to an earlier step with checkpoint.resume: STEP" if step > 1 else ""
        is_fp16 = run.config.training.precision == "fp16"
        texts = _named_texts(run.tasks, error)
        where = f"task {', '.join(error.tasks)}" + (f"; texts {texts}" if texts else "")
        raise ValueError(
            f"step {step}: {error.what} is not finite ({where}){weights}; look at these texts, or lower "
            f"training.learning_rate, training.max_grad_norm or a task's weight{_OVERFLOW if is_fp16 else ''}{back}"
        ) from error


def _named_texts(tasks: Sequence[Task], error: NonFiniteError) -> str:
    """FILE:LINE of each text that the error names, and the number of further texts; empty if it names none."""
    sources, texts = text_sources(tasks), error.plan.texts
    places = [sources[texts.source_T[row]].data.location(int(texts.text_T[row])) for row in error.text_rows]
    more = f" and {error.num_texts - len(places)} more" if error.num_texts > len(places) else ""
    return f"{', '.join(places)}{more}"
