"""Floor 5: everything a run is made of, built from a checked recipe. The trainer drives it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from harness import comm
from harness.config import (
    BANKS,
    CHECKPOINTS,
    LoadedRecipe,
    RunConfig,
    load_deepspeed_json,
)
from harness.data.batch.deal import deal
from harness.data.batch.tokens import token_batches
from harness.data.plan.plan import plan
from harness.data.plan.task import Task
from harness.data.table.tokenisation import Tokeniser
from harness.demo.corpus import corpus_hash
from harness.encoder.encoder import Encoder, fingerprint, load_encoder
from harness.engine.budget import micro_batch_tokens
from harness.engine.phases import Step
from harness.engine.zero import ZeroEngine
from harness.evaluation.runner import LoadedData, check_main_metric, load
from harness.losses.objective import Objective
from harness.mining.dynamic import DynamicNegatives
from harness.mining.guide import Guide, load_guide
from harness.mining.remine import Reranking
from harness.mining.upcoming import Upcoming
from harness.run.encoders import TextEncoders
from harness.run.objective import build_objective
from harness.run.tasks import (
    bank_hashes,
    check_lengths,
    check_ranking,
    check_reranking,
    locate_for,
    offset_of,
    open_tasks,
)
from harness.search.encode import TextEncoder


@dataclass(frozen=True, slots=True)
class Run:
    """Data, model, loss and engine of one recipe, on this rank."""

    config: RunConfig
    tokeniser: Tokeniser
    tasks: tuple[Task, ...]
    banks: Mapping[str, str]  # hash of the bank that a task starts with, by task
    objective: Objective
    reranking: Reranking
    negatives: DynamicNegatives
    guide: Guide | None
    engine: ZeroEngine
    encoder: Encoder  # the module the engine drives
    encoders: TextEncoders
    evaluation_data: LoadedData

    @property
    def evaluates(self) -> bool:
        return bool(self.config.evaluation.data) and self.config.evaluation.every > 0

    @property
    def micro_batch_tokens(self) -> int:
        """Tokens of a micro-batch, at most."""
        return self.encoders.micro_batch_tokens

    def is_due(self, step: int, every: int) -> bool:
        """Whether something done every so many steps, and after the last one, is done after this one. 0: never."""
        return every > 0 and (step % every == 0 or step == self.config.training.steps)

    def steps(self, after: int) -> Iterator[Step]:
        """The steps after step `after`, each planned and tokenised while the one before it is computed."""
        if after >= self.config.training.steps:
            return
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="plan") as planner:
            ahead = planner.submit(self.prepare, after + 1)
            for step in range(after + 1, self.config.training.steps + 1):
                started = time.perf_counter()
                prepared = replace(ahead.result(), seconds_waiting=time.perf_counter() - started)
                if step < self.config.training.steps:
                    ahead = planner.submit(self.prepare, step + 1)
                yield prepared

    def prepare(self, step: int) -> Step:
        """Plan step `step`, deal its texts to the ranks, and tokenise this rank's share."""
        training = self.config.training
        planned = plan(self.tasks, seed=training.seed, step=step, balance=self.config.loss.balance)
        scheduled = deal(planned.texts.length_T, comm.world_size(), self.micro_batch_tokens)
        batches = token_batches(planned, scheduled.micro_batches[comm.rank()], self.tasks, self.tokeniser)
        return Step(planned, scheduled, batches, training.seed, keep_graph=training.keep_graph)

    def guided(self, step: Step) -> Step:
        """The same step without the negatives that the recipe's guide finds too near. Every rank calls it in order."""
        return step if self.guide is None else replace(step, plan=self.guide.mask(step.plan))

    def continued(self, state: dict[str, Any]) -> Run:
        """The same run with the micro-batch budget its checkpoint was trained with, if the recipe says `auto`.

        Dropout masks depend on the cut into micro-batches: another budget would be another run.
        """
        if self.config.training.micro_batch_tokens != "auto" or "micro_batch_tokens" not in state:
            return self
        self.encoders.micro_batch_tokens = state["micro_batch_tokens"]
        return self

    def encode(self) -> TextEncoder:
        """An encoder of texts for evaluation, with the weights as they are now."""
        return self.encoders.for_evaluation()

    def sample_texts(self) -> list[str]:
        """A few of the run's own texts, to compare models by."""
        first = self.tasks[0].data
        return [text for text, _ in first.read_texts(np.arange(min(8, first.num_texts)))]

    def fingerprint(self) -> dict[str, Any]:
        """What the plan is a function of, beside the recipe: a checkpoint is continued on the same only."""
        hashes = {task.config.name: task.data.content_hash for task in self.tasks}
        guide = {} if self.guide is None else {"guide": self.guide.fingerprint}
        return {"data": hashes, "banks": dict(self.banks), "tokenizer": self.tokeniser.fingerprint, **guide}

    def checkpoint_facts(self) -> dict[str, Any]:
        """What a checkpoint's state.json says beside its step, and beside what must be equal to continue it."""
        return {
            "name": self.config.name,
            "micro_batch_tokens": self.micro_batch_tokens,
            "rankings": sorted(self.negatives.rankings()),
        }

    def data_facts(self) -> list[dict[str, Any]]:
        """What run.json and the model card say of each task's data."""
        return [
            {
                "task": task.config.name,
                "kind": task.config.kind,
                "path": task.config.path,
                "rows": task.data.num_rows,
                "texts": task.data.num_texts,
                "hash": task.data.content_hash,
                "corpus_hash": corpus_hash(task.data.path),
                "bad_rows": task.data.bad_rows,
            }
            for task in self.tasks
        ]


def build_run(loaded: LoadedRecipe) -> Run:
    """Open and validate the data, then load the model and hand it to ZeRO.

    Raises:
        ValueError: data, model or settings that do not fit, in one line.
    """
    config = loaded.config
    for task in config.tasks:  # a missing file is said before anything is loaded
        locate_for(loaded, task.path)
    evaluation_data = load([locate_for(loaded, path, allow_hub=False) for path in config.evaluation.data])
    check_main_metric(evaluation_data, config.evaluation.main_metric, config.model.matryoshka_dims or ())
    tokeniser = Tokeniser(config.model.name_or_path, config.model.trust_remote_code)
    check_lengths(config)
    check_reranking(config)
    tasks = open_tasks(loaded, tokeniser)
    encoder = load_encoder(config.model, config.training.dropout, config.training.seed)
    check_ranking(loaded, encoder, tasks)
    objective = build_objective(config)
    objective.check_shares(comm.world_size())
    guide = None if config.guide is None else load_guide(config.guide, tasks)
    engine = ZeroEngine(encoder, config.training, load_deepspeed_json(config.deepspeed, loaded.recipe_folder))
    budget = micro_batch_tokens(config.training.micro_batch_tokens, encoder, config.training.precision)
    encoders = TextEncoders(config, engine, tokeniser, budget)
    look_ahead = _build_look_ahead(config, tasks, encoders)
    reranking = _build_reranking(config, encoder, encoders)
    run = Run(
        config=config,
        tokeniser=tokeniser,
        tasks=tasks,
        banks=bank_hashes(loaded),
        reranking=reranking,
        negatives=DynamicNegatives(
            config.mining, tasks, config.training.steps, look_ahead=look_ahead, rerank=reranking
        ),
        guide=guide,
        objective=objective,
        encoder=encoder,
        engine=engine,
        encoders=encoders,
        evaluation_data=evaluation_data,
    )
    different = [
        rank for rank, other in enumerate(comm.gather_objects(run.fingerprint())) if other != run.fingerprint()
    ]
    if different:
        raise ValueError(
            f"data: ranks {different} read other data or another tokenizer than rank {comm.rank()}, expected the same "
            "files on every host"
        )
    return run


def _build_look_ahead(config: RunConfig, tasks: Sequence[Task], encoders: TextEncoders) -> Upcoming:
    seed, balance, budget = config.training.seed, config.loss.balance, config.mining.budget
    return Upcoming(tasks, encoders.for_task, seed=seed, balance=balance, budget=budget)


def _build_reranking(config: RunConfig, encoder: Encoder, encoders: TextEncoders) -> Reranking:
    def identity() -> dict[str, Any]:
        """What embeddings depend on, beside prompts and lengths: the weights as they are at the call."""
        weights = encoders.engine.module_state()
        weights_hash = comm.broadcast_object(fingerprint(weights) if comm.is_main() else None)
        return {"weights": weights_hash, "pooling": encoder.pooling}

    return Reranking(
        config.mining.remine,
        folder=Path(config.output) / BANKS,
        checkpoints=Path(config.output) / CHECKPOINTS,
        encoder_of=encoders.for_task,
        identity=identity,
        offset_of=lambda task: offset_of(task.config),
    )
