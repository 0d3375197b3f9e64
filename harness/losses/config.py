"""The recipe's `loss` section."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.settings.section import Section
from harness.types import Balance


class LossConfig(Section):
    """The settings of the step's loss that all tasks share.

    temperature: of the query losses of a task that sets no temperature.
    cosent_temperature: of the pair losses of a task that sets no temperature.
    beta: the weight of the pair losses relative to the query losses.
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
    balance: Balance = "cbb"
    implementation: Literal["auto", "reference", "chunked", "triton"] = "auto"
    gather: Literal["auto", "table", "ring"] = "auto"
