"""Text encoders that use the run's current weights, for evaluation and for mining."""

from __future__ import annotations

from dataclasses import dataclass

from harness.config import RunConfig, max_lengths
from harness.data.plan.task import Task
from harness.data.table.tokenisation import Tokeniser
from harness.engine.zero import ZeroEngine
from harness.prompts import NO_PROMPTS
from harness.search.encode import TextEncoder


@dataclass(frozen=True, slots=True)
class TextEncoders:
    """Creates text encoders that use the engine's current weights. Creating one switches dropout off."""

    config: RunConfig
    engine: ZeroEngine
    tokeniser: Tokeniser
    micro_batch_tokens: int

    def for_evaluation(self) -> TextEncoder:
        """An encoder for evaluation, which chooses the prompts. It cuts texts to the recipe's lengths.

        It computes without autocast and with bidirectional attention where that is the end of a soft mask, so a score
        during training is the score of the exported model in float32. Flash attention computes in half precision only.
        """
        self._attend_as_in_training(False)
        self.engine.train_mode(False)
        needs_autocast = self.config.model.attention == "flash_attention_2"
        return TextEncoder(
            self.engine.forward if needs_autocast else self.engine.forward_without_autocast,
            self.tokeniser,
            max_lengths=max_lengths(self.config),
            prompts=NO_PROMPTS,
            micro_batch_tokens=self.micro_batch_tokens,
        )

    def for_task(self, task: Task) -> TextEncoder:
        """An encoder of texts that already begin with their prompts: it cuts them to the task's lengths.

        It computes in the precision and with the attention of training, like the loss, whose similarities mining
        compares with its own.
        """
        self._attend_as_in_training(True)
        self.engine.train_mode(False)
        return TextEncoder(
            self.engine.forward,
            self.tokeniser,
            max_lengths={"query": task.query_max_length, "document": task.document_max_length},
            prompts=NO_PROMPTS,
            micro_batch_tokens=self.micro_batch_tokens,
        )

    def _attend_as_in_training(self, is_used: bool) -> None:
        soft_mask = getattr(self.engine.module, "soft_mask", None)
        if soft_mask is not None:
            soft_mask.is_used = is_used
