"""Floor 6: the loop. What a step is lies in data/plan/plan.py, how it is computed in engine/phases.py."""

from __future__ import annotations

import time
from pathlib import Path

from torch import Tensor

from harness import comm
from harness.config import LoadedRecipe, inference_prompts
from harness.data.plan.task import text_sources
from harness.encoder.encoder import load_encoder
from harness.engine.checkpoint import Checkpoints, checkpoint_name
from harness.engine.guard import NonFiniteError, check_gradients, check_loss
from harness.engine.optimizer import learning_rate
from harness.engine.phases import Step, embed, replay, score
from harness.evaluation.runner import evaluate, results_table
from harness.export.sentence_transformers_folder import embed as embed_on_cpu
from harness.export.sentence_transformers_folder import longest_text_of, verify_model, write_model
from harness.mining.ineffective_settings import empty_window_message, ineffective_rule_message
from harness.report.report import Report
from harness.report.run_file import peak_memory_bytes
from harness.run.build import Run, build_run
from harness.run.folder import RunFolder
from harness.stopwatch import Stopwatch
from harness.types import StepStats


def train(loaded: LoadedRecipe) -> None:
    """Train a recipe to its last step, evaluate before and after, export the model. Continues an interrupted run.

    Raises:
        ValueError: settings, data or checkpoints that do not fit, or a loss or gradient that is not finite.
    """
    comm.initialise()
    folder = RunFolder.of(loaded.config)
    if folder.is_finished():
        return folder.show_finished()
    folder.refuse_other_recipe()
    ranks = f"{comm.world_size()} rank{'s' if comm.world_size() > 1 else ''}"
    folder.say(f"{ranks} on {comm.device().type}: reading the data, then the model")
    run = build_run(loaded)
    folder.say_bad_rows(run.tasks)
    config = loaded.config
    idle = ineffective_rule_message(config.mining, run.tasks, config.training.steps, config.loss.balance)
    for message in (empty_window_message(run.tasks), idle):
        if message and comm.is_main():
            folder.warn(message)
    checkpoints = Checkpoints(folder.checkpoints, loaded.config.checkpoint.keep, folder.warn)
    state = folder.resume(run.engine, run.negatives, checkpoints, run.fingerprint())
    run, start = run.continued(state), int(state["step"])
    folder.prepare(start)
    facts = run.data_facts(), run.evaluation_data.facts
    with Report(folder.path, loaded.config, loaded.config.training.steps, start, *facts) as report:
        if start == 0 and run.evaluates:
            _evaluate(run, report, 0)
        for step in run.steps(after=start):
            report.step(_step_or_stop(run, step, folder, checkpoints))
            if run.is_due(step.plan.step, loaded.config.evaluation.every) and run.evaluates:
                _evaluate(run, report, step.plan.step)
            if run.is_due(step.plan.step, loaded.config.checkpoint.every):
                _save(run, folder, checkpoints, step.plan.step)
        _export(run, folder)
        report.finish(comm.gather_objects(peak_memory_bytes()))
        _draw(folder)
        _show_result(folder, report)
    comm.shutdown()


def train_step(run: Run, step: Step) -> StepStats:
    """One step: embed → score → replay → step; then the negatives that have become easy are replaced.

    Raises:
        NonFiniteError: on every rank, before the weights change.
    """
    watch, started = Stopwatch(), time.perf_counter()
    comm.stopwatch.take()  # evaluations and checkpoints have communicated, too
    run.engine.train_mode(True)  # a model comes from disk, and from every evaluation, with dropout off
    with watch("mining"):
        step = run.guided(step)
    with watch("embed"):
        embeddings = embed(run.engine, step)
    with watch("score"):
        scores = score(run.engine, run.objective, step, embeddings)
        metrics = scores.metrics
        check_loss(step, metrics, scores.table_TD)
    with watch("replay"):
        probes = replay(run.engine, step, embeddings, scores.gradients)
        if run.config.training.precision != "fp16":  # there an overflow only lowers the loss scale
            check_gradients(step, probes)
    rate = learning_rate(run.config.training, step.plan.step)
    with watch("step"):
        norm = run.engine.step(rate)
    with watch("mining"):
        mined = run.negatives.observe(step.plan, scores.own_similarity)
    seconds = {"data": step.seconds_waiting, **watch.take(), **comm.stopwatch.take()}
    return StepStats(
        step=step.plan.step,
        loss=metrics["loss"],
        loss_per_task=_loss_per_task(metrics),
        learning_rate=rate,
        gradient_norm=norm,
        positive_similarity=metrics["positive_similarity"],
        negative_similarity=metrics["negative_similarity"],
        num_texts=len(step.plan.texts),
        num_tokens=int(step.plan.texts.length_T.sum()),
        seconds=step.seconds_waiting + time.perf_counter() - started,
        extra={
            **mined,
            "false_negatives_masked": metrics["false_negatives_masked"],
            "texts_saved": float(step.plan.texts_saved),
            **{f"seconds/{place}": value for place, value in seconds.items()},
            "memory_bytes": peak_memory_bytes(),
        },
    )


def _loss_per_task(metrics: dict[str, float]) -> dict[str, float]:
    return {name.removeprefix("loss/"): value for name, value in metrics.items() if name.startswith("loss/")}


def _step_or_stop(run: Run, step: Step, folder: RunFolder, checkpoints: Checkpoints) -> StepStats:
    """A step; if a number is not finite, a checkpoint from before it and an error that names the texts."""
    try:
        return train_step(run, step)
    except NonFiniteError as error:
        before = checkpoints.folder / checkpoint_name(error.step - 1)
        if error.step > 1 and not before.exists():
            _save(run, folder, checkpoints, error.step - 1)
        texts = step.plan.texts
        sources = text_sources(run.tasks)
        places = [sources[texts.source_T[row]].data.location(int(texts.text_T[row])) for row in error.rows]
        more = f" and {error.num_texts - len(places)} more" if error.num_texts > len(places) else ""
        saved = f"; the weights before this step are in {before}" if error.step > 1 else ""
        raise ValueError(
            f"step {error.step}: {error.what} is not finite (task {', '.join(error.tasks)}; texts "
            f"{', '.join(places)}{more}){saved}; look at these texts, or lower training.learning_rate or "
            "training.max_grad_norm"
        ) from error


def _evaluate(run: Run, report: Report, step: int) -> None:
    results = evaluate(run.encode(), run.evaluation_data, run.config.model.matryoshka_dims)
    report.evaluation(step, results)


def _save(run: Run, folder: RunFolder, checkpoints: Checkpoints, step: int) -> None:
    state = run.engine.module_state()
    checkpoints.save(
        run.engine,
        step,
        {**run.checkpoint_facts(), **run.fingerprint()},
        lambda out: _write(run, folder, state, out, step),
        is_best=comm.is_main() and folder.is_best(step),
        arrays=run.negatives.state() if comm.is_main() else None,
        outside=run.reranking.files(run.negatives.rankings()),
    )


def _export(run: Run, folder: RunFolder) -> None:
    """Write model/, then reload it with sentence-transformers and compare with the training weights, in float32."""
    state = run.engine.module_state()
    if comm.is_main():
        _write(run, folder, state, folder.model, run.config.training.steps)
        trained = load_encoder(run.config.model)
        trained.load_state_dict(state)
        texts = run.sample_texts()
        expected = embed_on_cpu(trained, run.tokeniser, texts, longest_text_of(run.config.model))
        verify_model(folder.model, texts, expected, run.config.model)
    comm.barrier()


def _write(run: Run, folder: RunFolder, state: dict[str, Tensor], out: Path, step: int) -> None:
    card = folder.model_card(run.encoder.dim, step=step)
    prompts = {str(role): prompt for role, prompt in inference_prompts(run.config).items()}
    write_model(out, run.encoder, state, run.tokeniser.tokenizer, run.config.model, prompts=prompts, card=card)


def _draw(folder: RunFolder) -> None:
    """report.html. The run is safe by now: whatever goes wrong here costs a warning."""
    if not comm.is_main():
        return
    try:
        from harness.report.page import write_report

        write_report([folder.history()], folder.path)
    except Exception as error:
        folder.warn(f"report.html could not be made ({error}); to try again: harness report {folder.path}")


def _show_result(folder: RunFolder, report: Report) -> None:
    if folder.last_scores():
        report.show(results_table(folder.scores(0), folder.last_scores()))
    report.message(f"run folder: {folder.path}")
    report.message(f"model: {folder.model}")
