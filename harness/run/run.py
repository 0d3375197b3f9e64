"""A run: data, model, loss and engine of one recipe on this rank. It plans each step while the last one is computed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from torch import Tensor

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
from harness.evaluation.mteb.during_training import MtebTasks
from harness.evaluation.runner import LoadedData, Results
from harness.losses.objective import Objective
from harness.mining.dynamic import DynamicNegatives
from harness.mining.guide import Guide
from harness.mining.judging.in_batch import standings
from harness.mining.remine import Reranking
from harness.report.messages import warn
from harness.run.callbacks.ending import Ending, Outcome
from harness.run.encoders import TextEncoders
from harness.settings.section import as_tuple
from harness.stopwatch import stopwatch
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
    mteb: MtebTasks | None  # of `evaluation.mteb`
    ending: Ending = field(default_factory=Ending)

    @property
    def last_step(self) -> int:
        """The step after which the run ends, as far as is known now."""
        return self.config.training.num_steps if self.ending.step is None else self.ending.step

    @property
    def outcome(self) -> Outcome:
        """How this start of the run has ended, for `Callback.on_end`."""
        return self.ending.outcome

    def request_stop(self, reason: str) -> None:
        """End the run early, as if the present step were its last. Any rank may call it; all end together."""
        self.ending.request(reason)

    def is_due(self, step: int, every: int | None) -> bool:
        """Whether an action is due after this step that is due every `every` steps and after the last. 0: never."""
        assert every is not None  # RunConfig fills it in
        return every > 0 and (step % every == 0 or step == self.last_step)

    def steps(self, after: int) -> Iterator[Step]:
        """The steps after step `after`. Each step is planned and tokenised while the previous step is computed."""
        if after >= self.last_step:
            return
        self._attend_as_at(after)  # what is mined before the next step is computed as after the last one
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="plan") as planner:
            next_step = planner.submit(self.prepare, after + 1)
            for number in range(after + 1, self.config.training.num_steps + 1):
                started = time.perf_counter()
                step = replace(next_step.result(), seconds_waiting=time.perf_counter() - started)
                if number < self.config.training.num_steps:
                    next_step = planner.submit(self.prepare, number + 1)
                waits.start_is_over()
                yield step
                if number >= self.last_step:
                    return

    def prepare(self, number: int) -> Step:
        """Plan step `number`, assign its texts to the ranks, and tokenise the texts of this rank."""
        training = self.config.training
        step_plan = plan(self.tasks, seed=training.seed, step=number, balance=self.config.loss.balance)
        schedule = deal(step_plan.texts.length_T, comm.world_size(), self.micro_batch_tokens)
        batches = token_batches(step_plan, schedule.micro_batches[comm.rank()], self.tasks, self.tokeniser)
        return Step(step_plan, schedule, batches, training.seed)

    def with_attention(self, step: Step) -> Step:
        """The step, after the model has been told how far it reads later tokens in it (`attention_mask: soft`)."""
        self._attend_as_at(step.number)
        return step

    def attention(self) -> dict[str, float]:
        """How far the model reads later tokens now, as a metric; none without a soft mask."""
        soft_mask = self.encoder.soft_mask
        return {} if soft_mask is None else {"soft_mask_weight": soft_mask.weight}

    def _attend_as_at(self, number: int) -> None:
        if self.encoder.soft_mask is not None:
            self.encoder.soft_mask.at_step(number)

    @stopwatch("mining")
    def mask_with_guide(self, step: Step) -> Step:
        """Leave out the negatives that the guide model judges to be positives. Every rank must call it."""
        return step if self.guide is None else replace(step, plan=self.guide.mask(step.plan))

    @stopwatch("mining")
    def replace_easy_negatives(
        self, step: Step, own_similarity: Mapping[str, np.ndarray], embeddings: Sequence[Tensor]
    ) -> dict[str, float]:
        """Replace the negatives that have become easy. Returns metrics that count the replacements.

        Every rank must call it with the same numbers. own_similarity: see `engine.phases.Scores`. embeddings: of the
        step, see `engine.phases.embed`.
        """
        dims, compared = self.config.model.matryoshka_dims, self.negatives.compared_tasks
        found = standings(step, embeddings, own_similarity, compared, dims[-1] if dims else None) if compared else {}
        return self.negatives.observe(step.plan, own_similarity, found)

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
        teachers = {task.config.name: task.teacher.fingerprint for task in self.tasks if task.teacher is not None}
        vectors = {"teacher vectors": teachers} if teachers else {}
        return {"data": data, "banks": dict(self.bank_hashes), **vectors, **tokenizer, **guide, **frozen_weights}

    def mteb_scores(self) -> Results:
        """The scores of the current weights on the tasks of `evaluation.mteb`. Every rank must call it."""
        assert self.mteb is not None
        return self.mteb.scores(self.encoders.for_evaluation(), normalize=self.encoder.normalize, warn=warn)

    def evaluation_facts(self) -> list[dict[str, Any]]:
        """Facts about what the run is scored on, for run.json: its evaluation data, then tasks of mteb."""
        return [*self.evaluation_data.facts, *(() if self.mteb is None else self.mteb.facts)]

    def data_facts(self) -> list[dict[str, Any]]:
        """Facts about each task's data, for run.json and the model card."""
        return [
            {
                "task": task.config.name,
                "kind": task.config.kind,
                "path": task.config.path,
                # What is no file is read by the name that the recipe has for it.
                "hub_names": sorted({file.path for file in task.data.files} & set(as_tuple(task.config.path))),
                "prompts": task.config.prompts.to_prompts().for_pairs(),
                "rows": task.data.num_rows,
                "texts": task.data.num_texts,
                "hash": task.data.content_hash,
                "corpus_hash": corpus_hash(task.data.path),
                "bad_rows": task.data.bad_rows,
            }
            for task in self.tasks
        ]
