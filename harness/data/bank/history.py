"""Which bank of negatives a step draws from: a bank that was ranked anew during a run serves from a later step on."""

from __future__ import annotations

from dataclasses import dataclass

from harness.data.bank.negatives import NegativeBank
from harness.data.table.index import TaskData


@dataclass(frozen=True, slots=True)
class ActiveBank:
    """A bank and the first step that draws from it; ranked after step `ranked_after` (0: before the run)."""

    first_step: int
    ranked_after: int
    bank: NegativeBank


class BankHistory:
    """A task's banks in the order of their steps. All take their candidates from one text table.

    The plan of a later step is made in another thread while a bank is added, so the tuple is replaced as a whole.
    """

    def __init__(self, bank: NegativeBank) -> None:
        self.banks: tuple[ActiveBank, ...] = (ActiveBank(0, 0, bank),)

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
        """The bank that step `step` draws from."""
        return next(active.bank for active in reversed(self.banks) if active.first_step <= step)

    def add(self, bank: NegativeBank, *, first_step: int, ranked_after: int) -> None:
        """Let the steps from `first_step` on draw from `bank`."""
        self.banks = (*self.banks, ActiveBank(first_step, ranked_after, bank))

    def forget_before(self, step: int) -> None:
        """Drop banks, and state of the others, that only steps before `step` would ask for."""
        num_ended = sum(later.first_step <= step for later in self.banks[1:])
        self.banks = self.banks[num_ended:]
        for active in self.banks:
            active.bank.forget_before(step)
