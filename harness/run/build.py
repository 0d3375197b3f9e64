"""Builds a run from a checked recipe: opens the data, loads the model, and wraps the model in the ZeRO engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import comm, rank0
from harness.config import BANKS, CHECKPOINTS, LoadedRecipe, RunConfig, with_folder_prompts
from harness.data.plan.task import Task
from harness.data.table.tokenisation import Tokeniser
from harness.encoder.attention.soft_mask import SoftMask
from harness.encoder.compile import compile_layers
from harness.encoder.encoder import Encoder, fingerprint, frozen_fingerprint
from harness.encoder.load import load_encoder
from harness.encoder.partial.adapter import without_new_adapter
from harness.encoder.partial.depth import trained_share
from harness.engine.budget import micro_batch_tokens
from harness.engine.checkpoint import STATE, Checkpoint
from harness.engine.graphs import GraphChoice
from harness.engine.zero import ZeroEngine, check_deepspeed_json
from harness.mining.dynamic import DynamicNegatives
from harness.mining.guide import load_guide
from harness.mining.remine import Reranking
from harness.mining.upcoming import Upcoming
from harness.report.console import MiningConsole
from harness.report.messages import say, warn
from harness.run.encoders import TextEncoders
from harness.run.objective import build_objective
from harness.run.run import Run
from harness.run.startup.check import check_inputs
from harness.run.startup.length import with_known_steps
from harness.run.startup.mining import check_ranking, offset_of
from harness.run.tasks import (
    bank_hashes,
    check_machine,
    check_recipe,
    check_teachers,
    load_tokeniser,
    open_mteb,
    open_tasks,
)
from harness.settings.deepspeed_json import load_deepspeed_json, untested_keys, zero_stage


def build_run(loaded: LoadedRecipe, checkpoint: Checkpoint | None = None) -> Run:
    """Open and check the data, load the model, and wrap the model in the ZeRO engine. Every rank must call it.

    The model comes before the training data, which may take an hour to read, so that weights that are not whole are
    found in seconds. checkpoint: the one that the run will continue from. Its weights are not loaded here.

    Raises:
        ValueError: data, model or settings do not fit together; the message has one line.
    """
    config = with_folder_prompts(loaded.config)
    loaded = replace(loaded, config=config)
    deepspeed_json = _deepspeed_json(loaded)
    evaluation_data, mteb = check_recipe(loaded, comm.world_size()), open_mteb(loaded, with_data=True)
    check_machine(loaded)
    tokeniser, encoder = load_tokeniser(config.model), _load_encoder(config, zero_stage(deepspeed_json))
    config = with_known_steps(config, tasks := open_tasks(loaded, tokeniser))
    _set_soft_mask(encoder, config)
    _check_tasks(loaded, encoder, tokeniser, tasks)
    guide = None if config.guide is None else load_guide(config.guide, tasks)
    engine = ZeroEngine(encoder, config.training, deepspeed_json)
    encoders = TextEncoders(config, engine, tokeniser, _micro_batch_tokens(config, encoder, checkpoint))
    negatives, reranking = _build_negatives(config, tasks, encoder, encoders)
    run = Run(
        config=config,
        tokeniser=tokeniser,
        tasks=tasks,
        bank_hashes=bank_hashes(loaded),
        objective=build_objective(config, comm.world_size(), encoder.dim),
        guide=guide,
        engine=engine,
        graphs=GraphChoice(config.training.activation_memory, engine, say),
        encoder=encoder,
        micro_batch_tokens=encoders.micro_batch_tokens,
        encoders=encoders,
        negatives=negatives,
        reranking=reranking,
        evaluation_data=evaluation_data,
        mteb=mteb,
    )
    return _with_same_inputs_on_all_ranks(run)


def _set_soft_mask(encoder: Encoder, config: RunConfig) -> None:
    """A soft mask opens over all steps of the run by default, which are known once its data has been read."""
    if config.model.attention_mask == "soft":
        encoder.soft_mask = SoftMask(config.model.soft_mask_steps or config.training.num_steps)


def _check_tasks(loaded: LoadedRecipe, encoder: Encoder, tokeniser: Tokeniser, tasks: Sequence[Task]) -> None:
    """Check that what is known of the tasks' texts fits the model: a teacher's vectors, and what ranked their banks."""
    check_teachers(tasks, encoder.dim)
    check_ranking(loaded, encoder, tokeniser, tasks)


def _deepspeed_json(loaded: LoadedRecipe) -> dict[str, Any]:
    """The recipe's DeepSpeed JSON, checked; keys that are not tested here are said."""
    name = loaded.config.deepspeed
    deepspeed_json = check_deepspeed_json(load_deepspeed_json(name, loaded.recipe_folder), name)
    for warning in untested_keys(deepspeed_json, name):
        warn(warning)
    return deepspeed_json


def _load_encoder(config: RunConfig, stage: int) -> Encoder:
    """The model. ZeRO-3 converts and divides the weights one by one, so that no rank ever holds all of them."""
    training = config.training
    encoder = load_encoder(config.model, training.dropout, training.seed, as_stored=stage == 3)
    encoder.frozen_weights = frozen_fingerprint(encoder)
    for line in trained_share(encoder):
        say(line)
    if training.compile:
        compile_layers(encoder)
    return encoder


def _micro_batch_tokens(config: RunConfig, encoder: Encoder, checkpoint: Checkpoint | None) -> int:
    """The token budget of a micro-batch. A continued run with `auto` keeps the budget of its checkpoint.

    Dropout masks depend on how texts are divided into micro-batches, so another budget would change the run's numbers.
    """
    setting = config.training.micro_batch_tokens
    if checkpoint is not None and setting == "auto":
        before = checkpoint.state.get("micro_batch_tokens")
        if type(before) is not int or before < 1:
            raise ValueError(
                f"{checkpoint.folder / STATE}: got micro_batch_tokens {before}, expected the budget of the run; set "
                "training.micro_batch_tokens to a number"
            )
        return before
    training = config.training
    return micro_batch_tokens(setting, encoder, training.precision, training.activation_memory)


def _build_negatives(
    config: RunConfig, tasks: Sequence[Task], encoder: Encoder, encoders: TextEncoders
) -> tuple[DynamicNegatives, Reranking]:
    look_ahead, reranking = _build_look_ahead(config, tasks, encoders), _build_reranking(config, encoder, encoders)
    steps = config.training.num_steps
    negatives = DynamicNegatives(config.mining, tasks, steps, look_ahead=look_ahead, rerank=reranking, say=say)
    return negatives, reranking


def _build_look_ahead(config: RunConfig, tasks: Sequence[Task], encoders: TextEncoders) -> Upcoming:
    seed, balance, budget = config.training.seed, config.loss.balance, config.mining.budget
    return Upcoming(tasks, encoders.for_task, seed=seed, balance=balance, budget=budget)


def _build_reranking(config: RunConfig, encoder: Encoder, encoders: TextEncoders) -> Reranking:
    def identity() -> dict[str, Any]:
        """What embeddings depend on besides prompts and lengths: the current weights and the pooling."""
        weights = without_new_adapter(encoders.engine.module_state())
        weights_hash = rank0.by_main(lambda: fingerprint(weights))
        return {"weights": weights_hash, "pooling": encoder.pooling}

    return Reranking(
        config.mining.remine,
        folder=Path(config.output) / BANKS,
        checkpoints=Path(config.output) / CHECKPOINTS,
        encoder_of=encoders.for_task,
        identity=identity,
        offset_of=lambda task: offset_of(task.config),
        progress_of=lambda task: MiningConsole(f"task {task.config.name}: ", in_lines=True).progress,
    )


def _with_same_inputs_on_all_ranks(run: Run) -> Run:
    """The same run, after a check that all ranks have read the same."""
    check_inputs(run.input_hashes())
    return run
