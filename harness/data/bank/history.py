"""Tells which bank of negatives a step draws from.

A run may rank the candidates again. The new bank is then used from a later step on.
"""

from __future__ import annotations

from dataclasses import dataclass

from harness.data.bank.negatives import NegativeBank
from harness.data.table.index import TaskData


@dataclass(frozen=True, slots=True)
class ActiveBank:
    """A bank and the steps between which it was ranked and first used."""

    first_step: int  # the first step that draws from this bank
    ranked_after: int  # the step whose weights ranked the candidates; 0: ranked before the run
    bank: NegativeBank


class BankHistory:
    """The banks of a task, sorted by their first step. All banks take their candidates from one text table.

    Another thread may make the plan of a later step while a bank is added. For this reason `banks` is an immutable
    tuple that is replaced, never changed in place.
    """

    def __init__(self, bank: NegativeBank) -> None:
        self.banks: tuple[ActiveBank, ...] = (ActiveBank(0, 0, bank),)

    def begin(self, bank: NegativeBank) -> None:
        """Use `bank` in place of the first one, before any step is planned."""
        self.banks = (ActiveBank(0, 0, bank),)

    @property
    def newest(self) -> NegativeBank:
        return self.banks[-1].bank

    @property
    def num_slots(self) -> int:
        return self.newest.num_slots

    @property
    def texts(self) -> TaskData:
        """The text table of all candidates."""
        return self.newest.candidates.texts

    def at(self, step: int) -> NegativeBank:
        """The bank that the step number `step` draws from."""
        return next(active.bank for active in reversed(self.banks) if active.first_step <= step)

    def add(self, bank: NegativeBank, *, first_step: int, ranked_after: int) -> None:
        """Use `bank` for all steps from `first_step` on."""
        self.banks = (*self.banks, ActiveBank(first_step, ranked_after, bank))

    def forget_before(self, step: int) -> None:
        """Drop the banks, and the state inside the remaining banks, that only steps before `step` need."""
        num_ended = sum(later.first_step <= step for later in self.banks[1:])
        self.banks = self.banks[num_ended:]
        for active in self.banks:
            active.bank.forget_before(step)
