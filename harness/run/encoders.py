"""Encoders of texts that use a run's weights as they are at the moment, with dropout off."""

from __future__ import annotations

from dataclasses import dataclass

from harness.config import RunConfig, inference_prompts, max_lengths
from harness.data.plan.task import Task
from harness.data.table.tokenisation import Tokeniser
from harness.engine.zero import ZeroEngine
from harness.search.encode import TextEncoder


@dataclass(slots=True)
class TextEncoders:
    """Makes a new encoder at every call, because an encoder is valid only until the next training step."""

    config: RunConfig
    engine: ZeroEngine
    tokeniser: Tokeniser
    micro_batch_tokens: int  # changes once, when a checkpoint is continued that was trained with another number

    def for_evaluation(self) -> TextEncoder:
        """Takes texts without prompts, and puts evaluation's before them."""
        self.engine.train_mode(False)
        return TextEncoder(
            self.engine.forward,
            self.tokeniser,
            max_lengths=max_lengths(self.config),
            prompts=inference_prompts(self.config),
            micro_batch_tokens=self.micro_batch_tokens,
        )

    def for_task(self, task: Task) -> TextEncoder:
        """Takes texts of a task that have their prompts before them already."""
        self.engine.train_mode(False)
        return TextEncoder(
            self.engine.forward,
            self.tokeniser,
            max_lengths={"query": task.query_max_length, "document": task.document_max_length},
            prompts={"query": "", "document": ""},
            micro_batch_tokens=self.micro_batch_tokens,
        )
