"""A run: data, model, loss and engine of one recipe on this rank. It plans each step while the last one is computed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness import comm
from harness.config import RunConfig
from harness.data.batch.deal import deal
from harness.data.batch.tokens import token_batches
from harness.data.plan.plan import plan
from harness.data.plan.task import Task
from harness.data.table.tokenisation import Tokeniser
from harness.demo.corpus import corpus_hash
from harness.encoder.encoder import Encoder
from harness.engine.graphs import GraphChoice
from harness.engine.step import Step
from harness.engine.zero import ZeroEngine
from harness.evaluation.runner import LoadedData
from harness.losses.objective import Objective
from harness.mining.dynamic import DynamicNegatives
from harness.mining.guide import Guide
from harness.mining.remine import Reranking
from harness.run.encoders import TextEncoders
from harness.stopwatch import stopwatch
from harness.types import StepPlan
from harness.waits import waits


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that training needs. `build_run` creates it, the trainer uses it."""

    config: RunConfig
    tokeniser: Tokeniser
    tasks: tuple[Task, ...]
    bank_hashes: Mapping[str, str]  # task name → hash of the bank that the task starts with
    objective: Objective
    guide: Guide | None
    engine: ZeroEngine
    graphs: GraphChoice
    encoder: Encoder  # the module that the engine drives; ZeRO-3 shards its weights
    micro_batch_tokens: int
    encoders: TextEncoders
    negatives: DynamicNegatives
    reranking: Reranking
    evaluation_data: LoadedData

    def is_due(self, step: int, every: int | None) -> bool:
        """Whether an action is due after this step that is due every `every` steps and after the last. 0: never."""
        assert every is not None  # RunConfig fills it in
        return every > 0 and (step % every == 0 or step == self.config.training.steps)

    def steps(self, after: int) -> Iterator[Step]:
        """The steps after step `after`. Each step is planned and tokenised while the previous step is computed."""
        if after >= self.config.training.steps:
            return
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="plan") as planner:
            next_step = planner.submit(self.prepare, after + 1)
            for number in range(after + 1, self.config.training.steps + 1):
                started = time.perf_counter()
                step = replace(next_step.result(), seconds_waiting=time.perf_counter() - started)
                if number < self.config.training.steps:
                    next_step = planner.submit(self.prepare, number + 1)
                waits.start_is_over()
                yield step

    def prepare(self, number: int) -> Step:
        """Plan step `number`, assign its texts to the ranks, and tokenise the texts of this rank."""
        training = self.config.training
        step_plan = plan(self.tasks, seed=training.seed, step=number, balance=self.config.loss.balance)
        schedule = deal(step_plan.texts.length_T, comm.world_size(), self.micro_batch_tokens)
        batches = token_batches(step_plan, schedule.micro_batches[comm.rank()], self.tasks, self.tokeniser)
        return Step(step_plan, schedule, batches, training.seed)

    @stopwatch("mining")
    def mask_with_guide(self, step: Step) -> Step:
        """Leave out the negatives that the guide model judges to be positives. Every rank must call it."""
        return step if self.guide is None else replace(step, plan=self.guide.mask(step.plan))

    @stopwatch("mining")
    def replace_easy_negatives(self, step_plan: StepPlan, own_similarity: Mapping[str, np.ndarray]) -> dict[str, float]:
        """Replace the negatives that have become easy. Returns metrics that count the replacements.

        Every rank must call it with the same numbers. own_similarity: see `engine.phases.Scores`.
        """
        return self.negatives.observe(step_plan, own_similarity)

    def sample_texts(self) -> list[str]:
        """Up to eight texts of the run's data, to compare the embeddings of two models."""
        data = self.tasks[0].data
        return [text for text, _ in data.read_texts(np.arange(min(8, data.num_texts)))]

    def input_hashes(self) -> dict[str, Any]:
        """Hashes of data, banks, tokenizer, guide, frozen weights. A checkpoint is continued beside the same only."""
        data = {task.config.name: task.data.content_hash for task in self.tasks}
        guide = {} if self.guide is None else {"guide": self.guide.fingerprint}
        # A checkpoint leaves out what is frozen, or is continued by other ranks without it: it must be the same.
        frozen = self.encoder.frozen_weights
        frozen_weights = {} if frozen is None else {"frozen weights": frozen}
        tokenizer = {"tokenizer": self.tokeniser.fingerprint}
        return {"data": data, "banks": dict(self.bank_hashes), **tokenizer, **guide, **frozen_weights}

    def data_facts(self) -> list[dict[str, Any]]:
        """Facts about each task's data, for run.json and the model card."""
        return [
            {
                "task": task.config.name,
                "kind": task.config.kind,
                "path": task.config.path,
                "prompts": task.config.prompts.to_prompts().for_pairs(),
                "rows": task.data.num_rows,
                "texts": task.data.num_texts,
                "hash": task.data.content_hash,
                "corpus_hash": corpus_hash(task.data.path),
                "bad_rows": task.data.bad_rows,
            }
            for task in self.tasks
        ]
