"""The recipe's `loss` section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from harness.loss_table import LOSSES, LossName
from harness.settings.section import Section
from harness.types import Balance


class LossConfig(Section):
    """The settings of the step's loss that all tasks share.

    temperature: of the query losses of a task that sets no temperature.
    cosent_temperature: of the pair losses of a task that sets no temperature.
    beta: the weight of the pair losses relative to the query losses.
    weights: loss → what it is multiplied by within a task's sum of losses; 1 for those that are not named.
    balance: which tasks a step holds. `cbb`: all; `alternate`: one; `homogeneous`: one retrieval task and all tasks
        of the other kinds (see `harness.data.plan.draw.draw_examples`).
    implementation: how losses are computed; `reference` is simple and slow, `auto` is the fastest that runs here.
        On a GPU that is `triton`, if its kernels pass a check at the start (`harness/losses/self_check.py`), else
        `chunked`; run.json says which.
    gather: how a rank gets the embeddings of other ranks' texts. `table`: every rank holds those of the whole step.
        `ring`: the documents of InfoNCE pass from rank to rank, and only the texts of other losses are gathered.
        `auto`: the table if it takes at most 1 GiB per rank, else what takes less memory.
    """

    temperature: float = Field(0.05, gt=0)
    cosent_temperature: float = Field(0.05, gt=0)
    beta: float = Field(0.8, ge=0)
    weights: dict[LossName, Annotated[float, Field(gt=0)]] = Field(default_factory=dict)
    balance: Balance = "cbb"
    implementation: Literal["auto", "reference", "chunked", "triton"] = "auto"
    gather: Literal["auto", "table", "ring"] = "auto"

    @model_validator(mode="after")
    def _check_weights(self) -> LossConfig:
        unknown = next((name for name in self.weights if name not in LOSSES), None)
        if unknown is not None:
            raise ValueError(f"loss.weights: got {unknown!r}, expected losses: {', '.join(LOSSES)}")
        return self

    def check_named(self, names: set[LossName]) -> None:
        """Check that every loss with a weight is among `names`, those of the tasks.

        Raises:
            ValueError: a loss is not; its weight would change nothing.
        """
        unused = next((name for name in self.weights if name not in names), None)
        if unused is not None:
            raise ValueError(
                f"loss.weights: got {unused}, expected losses of the tasks: {', '.join(sorted(names))}; remove it, or "
                "name the loss in a task"
            )
