"""What `harness mine` says at its end about limits on likely positives."""

from __future__ import annotations

from typing import Any

import pytest

from harness.cli.mine import filters_and_search
from harness.data.bank.file import BankFacts

NONE = {"relative": None, "margin": None}
JUDGED = {"index": "exact", "recall": 1.0, "cross_encoder": {}}


@pytest.mark.parametrize(
    ("filters", "search", "is_advised"),
    [
        (NONE, {}, True),
        ({**NONE, "relative": 0.9}, {}, False),
        ({**NONE, "margin": 0.1}, {}, False),
        (NONE, JUDGED, False),
    ],
)
def test_a_bank_without_a_limit_on_cosines_is_told_of_one(
    filters: dict[str, Any], search: dict[str, Any], is_advised: bool
) -> None:
    facts = BankFacts("", None, "", 100, {}, filters, search or {"index": "exact", "recall": 1.0})
    assert ("--relative 0.95" in filters_and_search(facts)) is is_advised
