"""Text encoders with the weights that the run has reached, for evaluation and for mining."""

from __future__ import annotations

from dataclasses import dataclass

from harness.config import RunConfig, inference_prompts, max_lengths
from harness.data.plan.task import Task
from harness.data.table.tokenisation import Tokeniser
from harness.engine.zero import ZeroEngine
from harness.search.encode import TextEncoder


@dataclass(slots=True)
class TextEncoders:
    """Makes text encoders that use the engine's current weights. Making one switches dropout off."""

    config: RunConfig
    engine: ZeroEngine
    tokeniser: Tokeniser
    micro_batch_tokens: int  # another number once a checkpoint is continued that was trained with it

    def for_evaluation(self) -> TextEncoder:
        """Encodes plain texts: the encoder adds the recipe's prompts and applies its lengths."""
        self.engine.train_mode(False)
        return TextEncoder(
            self.engine.forward,
            self.tokeniser,
            max_lengths=max_lengths(self.config),
            prompts=inference_prompts(self.config),
            micro_batch_tokens=self.micro_batch_tokens,
        )

    def for_task(self, task: Task) -> TextEncoder:
        """Encodes texts of a task that have their prompts before them already, with the task's lengths."""
        self.engine.train_mode(False)
        return TextEncoder(
            self.engine.forward,
            self.tokeniser,
            max_lengths={"query": task.query_max_length, "document": task.document_max_length},
            prompts={"query": "", "document": ""},
            micro_batch_tokens=self.micro_batch_tokens,
        )
