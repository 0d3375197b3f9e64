"""The training loop. `data/plan/plan.py` decides which texts a step holds; `engine/phases.py` computes the step."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

from harness import comm, rank0
from harness.config import LoadedRecipe, with_folder_prompts
from harness.engine.budget import peak_memory_bytes
from harness.engine.phases import embed, replay, score, update_weights
from harness.engine.step import Step
from harness.engine.step_cost import StepCost
from harness.evaluation.mteb.outcome import PREFIX
from harness.evaluation.runner import evaluate
from harness.hosts import watch
from harness.process.stop_request import deferred
from harness.report.messages import warn
from harness.report.report import Report
from harness.run.callbacks.callback import Callback
from harness.run.callbacks.observers import Observers, observed
from harness.run.folder import RunFolder
from harness.run.run import Run
from harness.run.save import save_checkpoint, save_trained_model
from harness.run.start import start_or_continue
from harness.run.stop import end_if_no_better, explain_non_finite, stop_if_asked


def train(loaded: LoadedRecipe, callbacks: Sequence[Callback] = ()) -> None:
    """Train a recipe to its last step, evaluate before and after, export the model. Continues an interrupted run.

    callbacks: told what happens, see `Callback`; every rank gives as many.

    Raises:
        ValueError: settings, data or checkpoints that do not fit, or a loss or gradient that is not finite.
        StopAskedError: SIGTERM or SIGUSR1 has asked any rank to stop, and the state is saved.
    """
    watch.join(loaded.config.training.timeout)
    folder = RunFolder.of(with_folder_prompts(loaded.config))
    if folder.is_finished():
        return folder.show_finished()
    with folder.claimed():
        run, folder, trained_steps = start_or_continue(loaded, folder)
        with deferred(), observed(run, folder, trained_steps, callbacks) as observers, explain_non_finite(run, folder):
            _evaluate_if_missing(run, folder, observers, trained_steps)
            for step in run.steps(after=trained_steps):
                observers.step(train_step(run, step))
                stop_if_asked(run, folder, observers, step.number)
                _evaluate_and_save_if_due(run, folder, observers, step.number)
            save_trained_model(run, folder)
            _finish(run, folder, observers.report)
    comm.shutdown()


def train_step(run: Run, step: Step) -> dict[str, float]:
    """Compute one step, update the weights, then replace the negatives that have become easy.

    Returns the step's metrics: its row of metrics.jsonl. Each metric comes from the module that measures it.

    Raises:
        NonFiniteError: a loss, a gradient or the norm of all gradients is not finite. Raised on every rank, before the
            weights change.
    """
    cost = StepCost.start()
    step = run.graphs.choose(run.with_attention(run.mask_with_guide(step)))
    embeddings = embed(run.engine, step)
    scores = score(run.engine, run.objective, step, embeddings)
    replay(run.engine, step, embeddings, scores.gradients)
    update = update_weights(run.engine, step)
    mining = run.replace_easy_negatives(step, scores.own_similarity, embeddings)
    return {**step.plan.metrics(), **scores.metrics, **run.attention(), **update, **mining, **cost.metrics(step)}


def _evaluate_if_missing(run: Run, folder: RunFolder, observers: Observers, step: int) -> None:
    """Score the starting model, or the weights after a step at which a signal stopped the run before it scored them."""
    scored = comm.broadcast_object(list(observers.report.evaluation_results(step)))
    is_missing = _evaluate_if_due(run, observers, step, scored)
    end_if_no_better(run, folder, step)
    if folder.chooses_best or (is_missing and step > 0 and run.is_due(step, run.config.checkpoint.every)):
        rank0.by_main(lambda: folder.point_to_best(step))


def _evaluate_if_due(run: Run, observers: Observers, step: int, scored: Sequence[str] = ()) -> bool:
    """Score data sets and tasks of mteb, each at its own steps. scored: what has been. Returns whether any was due."""
    evaluation, of_mteb = run.config.evaluation, {name.startswith(PREFIX) for name in scored}
    data_due = bool(evaluation.data) and False not in of_mteb and run.is_due(step, evaluation.every)
    mteb_due = run.mteb is not None and True not in of_mteb and run.is_due(step, evaluation.mteb_every)
    with run.engine.averaged_weights() if data_due or mteb_due else nullcontext():
        if data_due:
            encode, dims = run.encoders.for_evaluation(), run.config.model.matryoshka_dims
            observers.evaluation(step, evaluate(encode, run.evaluation_data, dims, quantised=evaluation.quantised))
        if mteb_due:
            observers.evaluation(step, run.mteb_scores())
    return data_due or mteb_due


def _evaluate_and_save_if_due(run: Run, folder: RunFolder, observers: Observers, step: int) -> None:
    """A step with the best main metric so far is saved, too: it may become the model."""
    _evaluate_if_due(run, observers, step)
    end_if_no_better(run, folder, step)
    is_new_best = folder.chooses_best and rank0.by_main(lambda: folder.is_best(step))
    if run.is_due(step, run.config.checkpoint.every) or is_new_best:
        observers.checkpoint(step, save_checkpoint(run, folder, step))


def _finish(run: Run, folder: RunFolder, report: Report) -> None:
    """Mark the run finished, draw report.html and show the result."""
    facts = folder.best_step.facts(run.last_step) if comm.is_main() else {}
    facts["mining"] = run.negatives.measured()
    report.finish(comm.gather_objects(peak_memory_bytes()), **facts, ended_early=run.ending.facts())
    run.ending.outcome = "finished"
    if comm.is_main():
        _draw(folder)
        folder.show_result(report)


def _draw(folder: RunFolder) -> None:
    """Write report.html. The run is complete without it, so an error is only a warning."""
    try:
        from harness.report.page import write_report

        write_report([folder.history()], folder.path)
    except Exception as error:
        warn(f"report.html could not be made ({error}); to try again: harness report {folder.path}")
