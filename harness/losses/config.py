"""The recipe's `loss` section."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.section import Section
from harness.types import Balance


class LossConfig(Section):
    """Temperatures, the weight beta of the pair losses, and which tasks a step holds.

    balance: `cbb` all of them; `alternate` one; `homogeneous` one retrieval task and all others (see
    `harness.data.plan.draw.draw_examples`).
    """

    temperature: float = Field(0.05, gt=0)
    cosent_temperature: float = Field(0.05, gt=0)
    beta: float = Field(0.8, ge=0)
    balance: Balance = "cbb"
    implementation: Literal["auto", "reference", "chunked", "triton"] = "auto"
