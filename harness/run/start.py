"""Starts or continues a run: from a recipe and its run folder to a run that is ready for its next step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from harness import comm, rank0
from harness.config import LoadedRecipe, RunConfig, prompt_notes
from harness.data.plan.task import Task
from harness.engine.checkpoint import Checkpoint, read_arrays
from harness.prompts.notes import lines_of_data
from harness.report.messages import say, warn
from harness.report.metrics_file import read_rows
from harness.report.report import EVALUATION, METRICS
from harness.run.build import build_run
from harness.run.folder import RunFolder
from harness.run.places import check_places
from harness.run.run import Run
from harness.run.startup.check import check_ranks
from harness.run.tasks import settings_without_effect
from harness.settings.allocator import keep_freed_memory, return_freed_memory, return_large_blocks
from harness.settings.deepspeed_json import load_deepspeed_json, zero_stage


def start_or_continue(loaded: LoadedRecipe, folder: RunFolder) -> tuple[Run, RunFolder, int]:
    """Build the run and load its newest checkpoint, if there is one. Every rank must call it.

    Returns the run, its folder with the recipe as it is now resolved, and the number of steps that are already trained.

    Raises:
        ValueError: settings, data or checkpoints that do not fit.
    """
    folder.refuse_other_recipe()
    check_places(loaded.config)
    ranks = f"{comm.world_size()} rank{'s' if comm.world_size() > 1 else ''}"
    say(f"{ranks} on {comm.device().type}: loading the model, then the data")
    if comm.device().type == "cpu":
        stage = zero_stage(load_deepspeed_json(loaded.config.deepspeed, loaded.recipe_folder))
        say(f"memory allocator: {memory_allocator(loaded.config, stage)}")
    check_ranks(loaded)
    checkpoint = folder.newest_checkpoint()
    show_prompts(loaded.config, folder.config)
    run = build_run(loaded, checkpoint)
    folder = replace(folder, config=run.config)
    _warn_of_settings(run)
    _show_prompts_of_data(run)
    if checkpoint is None:
        say("starting from step 1")
    else:
        check_continuable(run, folder, checkpoint)
        load_checkpoint(run, folder, checkpoint)
        warn_of_other_masks(run, checkpoint)
        rank0.by_main(lambda: warn_of_lost_records(folder, checkpoint.step))
        warn_of_other_evaluation_data(run.evaluation_data.facts, folder)
    trained_steps = 0 if checkpoint is None else checkpoint.step
    folder.prepare(trained_steps)
    if checkpoint is None:
        run.negatives.rank_at_start()
    return run, folder, trained_steps


def memory_allocator(config: RunConfig, stage: int) -> str | None:
    """How the C library's allocator is set for a run, in words; the first call sets it. None on a GPU."""
    if comm.device().type != "cpu":
        return None
    if config.training.activation_memory == 0:
        return return_freed_memory()
    return return_large_blocks() if stage == 3 else keep_freed_memory()


def show_prompts(recipe: RunConfig, filled: RunConfig) -> None:
    """Say which prompts the tasks have, and warn of what may not be meant. filled: see `with_folder_prompts`."""
    lines, warnings = prompt_notes(recipe, filled)
    for line in lines:
        say(line)
    for warning in warnings:
        warn(warning)


def _show_prompts_of_data(run: Run) -> None:
    """Say which prompts the evaluation data gets, and warn of prompts that stand in the rows of a task."""
    data = run.evaluation_data
    if any(any(fact["prompts"].values()) for fact in data.facts) or any(map(_has_prompt, run.tasks)):
        for line in lines_of_data(data.kinds, data.prompts):
            say(line)
    for task in run.tasks:
        assert task.data.texts is not None
        column = task.data.texts.data.column("prompt")
        count = len(column) - column.null_count
        if count:
            warn(
                f"task {task.config.name}: {count} texts have a prompt of their own in the data, which only training "
                "uses; evaluation and the exported model have those of the tasks, if these agree: set "
                "evaluation.query_prompt, or prompts beside a path of evaluation.data"
            )


def _has_prompt(task: Task) -> bool:
    return any(task.config.prompts.to_prompts().for_pairs().values())


def check_continuable(run: Run, folder: RunFolder, checkpoint: Checkpoint) -> None:
    """Check that the run, continued from the checkpoint, would be the same run.

    Raises:
        ValueError: precision or data differ, or the checkpoint has more steps than the recipe.
    """
    path, state = checkpoint.folder, checkpoint.state
    before, now = state.get("precision"), run.engine.precision
    if before != now:
        raise ValueError(
            f"{path}: got a checkpoint of precision {before or 'unknown'}, expected {now} as this start has; "
            f"{_way_back_to(before)}, or set checkpoint.resume: never to start afresh"
        )
    changed = [key for key, now in run.input_hashes().items() if state.get(key) != now]
    if changed:
        raise ValueError(
            f"{path}: got another {' and '.join(changed)} than it was trained with, expected the same "
            "files; restore them, or set another output or checkpoint.resume: never"
        )
    if checkpoint.step > run.config.training.num_steps:
        raise ValueError(
            f"training.steps: got {run.config.training.num_steps}, but {folder.path} has been trained for "
            f"{checkpoint.step} steps; raise it to continue, or set another output or checkpoint.resume: never"
        )


def _way_back_to(precision: str | None) -> str:
    if precision is not None:
        return f"set training.precision: {precision}"
    return "an earlier version wrote it, whose bf16 is bf16_weights now"  # its state has another form


def load_checkpoint(run: Run, folder: RunFolder, checkpoint: Checkpoint) -> None:
    """Load weights, optimizer state and the negatives in use. Later checkpoints are set aside."""
    saved_by = (checkpoint.state["world_size"], checkpoint.state["zero_stage"])
    now = (comm.world_size(), run.engine.stage)
    run.engine.load(checkpoint.folder, saved_by)
    if saved_by != now:
        say(
            f"{_layout(*saved_by)} wrote the checkpoint, {_layout(*now)} continue it: weights and optimizer state are "
            "divided anew; the losses go on, but not bit for bit (sums in another order, other dropout masks)"
        )
    run.negatives.load_state(read_arrays(checkpoint.folder))
    steps = run.config.training.num_steps
    earlier_steps = folder.read("run.json", {}).get("steps", steps)
    if earlier_steps != steps:
        warn(
            f"training.steps was {earlier_steps} and is {steps} now: from here on the learning rate follows the new "
            "schedule"
        )
    comm.barrier()  # its folder may get another name, after all ranks have read it
    rank0.by_main(lambda: folder.go_on_from(checkpoint))


def warn_of_other_masks(run: Run, checkpoint: Checkpoint) -> None:
    """Warn of another micro-batch budget with dropout, whose masks depend on how texts are divided."""
    before, now = checkpoint.state.get("micro_batch_tokens"), run.micro_batch_tokens
    if before != now and has_dropout(run.encoder, run.config.training.dropout):
        warn(
            f"training.micro_batch_tokens was {before} and is {now} now: dropout draws other masks from here on, so "
            "the numbers are no longer those of the run that was started; set it back, or to auto, which keeps it"
        )


def has_dropout(model: nn.Module, rate: float | None) -> bool:
    """Whether training drops anything. rate: the recipe's `training.dropout`; None: the model's own rates."""
    if rate is not None:
        return rate > 0
    if any(module.p > 0 for module in model.modules() if isinstance(module, nn.Dropout)):
        return True
    # Attention without a module for it (Qwen, Llama, ModernBERT) keeps its rate as a number.
    numbers = (vars(module).get("attention_dropout") for module in model.modules())
    return any(isinstance(rate, float) and rate > 0 for rate in numbers)


def warn_of_lost_records(folder: RunFolder, trained_steps: int) -> None:
    """Warn of steps and scores that the run has recorded and its files no longer hold. Only rank 0 calls it."""
    recorded = {row["step"] for row in read_rows(folder.path / METRICS)[0]}
    lost = [step for step in range(1, trained_steps + 1) if step not in recorded]
    if lost:
        warn(
            f"{folder.path / METRICS}: got no rows of {len(lost)} of the {trained_steps} steps that are trained (the "
            f"first: {lost[0]}), expected one per step; the file was cut or deleted, and curves and means lack them"
        )
    evaluation = folder.config.evaluation
    if evaluation.data and evaluation.every and not folder.scores(0):
        warn(
            f"{folder.path / EVALUATION}: got no scores of the starting model, expected those of step 0; tables have "
            "no score from before training"
        )


def _layout(ranks: int, stage: int) -> str:
    return f"{ranks} rank{'s' if ranks > 1 else ''} at ZeRO stage {stage}"


def warn_of_other_evaluation_data(facts: Sequence[Mapping[str, Any]], folder: RunFolder) -> None:
    """Warn of evaluation data that is not what the run's earlier scores were computed on.

    facts: of each data set, as `LoadedData` has them; run.json holds those of the earlier start.
    """
    earlier = {fact["name"]: fact for fact in folder.read("run.json", {}).get("evaluation_data", [])}
    for fact in facts:
        before = earlier.get(fact["name"], fact)
        changes = {"hash": "files", "prompts": "prompts", "counts": "counts of what is left out"}
        changed = [words for key, words in changes.items() if before.get(key, fact.get(key)) != fact.get(key)]
        if changed:
            warn(
                f"evaluation data {fact['name']}: other {' and '.join(changed)} than at the run's earlier start: its "
                "scores of before and after cannot be compared; restore them, or set checkpoint.resume: never"
            )


def _warn_of_settings(run: Run) -> None:
    """Warn of rows that were left out, and of settings that have no effect with this data."""
    _warn_of_bad_rows(run.tasks)
    for message in settings_without_effect(run.config, run.tasks) if comm.is_main() else ():
        warn(message)


def _warn_of_bad_rows(tasks: Sequence[Task]) -> None:
    """Say how many rows `data.on_bad_row: skip` has left out, and the first of them."""
    for task in tasks:
        if task.data.bad_rows:
            warn(f"task {task.config.name}: {task.data.bad_rows} bad rows left out, {task.data.num_rows} kept")
            for message in task.data.bad_row_messages:
                warn(message)
