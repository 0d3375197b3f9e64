"""Stage 3, over time: which bank a step draws its negatives from. One ranked anew takes over at a step, not before."""

from __future__ import annotations

from dataclasses import dataclass

from harness.data.bank.negatives import NegativeBank
from harness.data.table.index import TaskData


@dataclass(frozen=True, slots=True)
class ActiveBank:
    """`bank` serves the steps from `first_step` on; it was ranked after step `ranked_after` (0: before the run)."""

    first_step: int
    ranked_after: int
    bank: NegativeBank


class BankHistory:
    """A task's banks in the order of their steps. All take their candidates from one text table.

    A plan made ahead may ask for a step while a bank is added: the list is replaced as a whole.
    """

    def __init__(self, bank: NegativeBank) -> None:
        self.reigns: tuple[ActiveBank, ...] = (ActiveBank(0, 0, bank),)

    @property
    def newest(self) -> NegativeBank:
        return self.reigns[-1].bank

    @property
    def num_slots(self) -> int:
        return self.newest.num_slots

    @property
    def texts(self) -> TaskData:
        """The text table of all candidates."""
        return self.newest.candidates.texts

    def at(self, step: int) -> NegativeBank:
        """The bank that step `step` draws from."""
        return next(reign.bank for reign in reversed(self.reigns) if reign.first_step <= step)

    def follow(self, bank: NegativeBank, *, first_step: int, ranked_after: int) -> None:
        """Let `bank` serve the steps from `first_step` on."""
        self.reigns = (*self.reigns, ActiveBank(first_step, ranked_after, bank))

    def forget_before(self, step: int) -> None:
        """Drop what only steps before `step` would still ask for."""
        ended = [later.first_step <= step for later in self.reigns[1:]]
        self.reigns = self.reigns[sum(ended) :]
        for reign in self.reigns:
            reign.bank.forget_before(step)
