"""The recipe's `mining` section."""

from __future__ import annotations

from typing import Literal

from harness.section import Section


class MiningConfig(Section):
    """`none`: every query keeps the first window of its ranked negatives."""

    rule: Literal["none"] = "none"
