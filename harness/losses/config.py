"""The recipe's `loss` section."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.section import Section


class LossConfig(Section):
    """Temperatures, the weight of CoSENT, and whether a step holds every task (cbb) or one (alternate)."""

    temperature: float = Field(0.05, gt=0)
    cosent_temperature: float = Field(0.05, gt=0)
    beta: float = Field(0.8, ge=0)
    balance: Literal["cbb", "alternate"] = "cbb"
    implementation: Literal["auto", "reference", "chunked", "triton"] = "auto"
