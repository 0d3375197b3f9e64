"""Whether a run ends before its last step, after which step and why; and how it has ended."""

from __future__ import annotations

from typing import Any

from harness import comm
from harness.report.messages import say
from harness.report.trackers.tracker import Outcome


class Ending:
    """The end of one start of a run. `step` and `reason` are the same on every rank; None: it goes to its last step."""

    def __init__(self) -> None:
        self.step: int | None = None
        self.reason: str | None = None
        self.outcome: Outcome = "failed"  # until the end says otherwise
        self._requested: str | None = None
        self._by_rule = False

    def request(self, reason: str) -> None:
        """Ask, on any rank, to end the run after the present step. The first reason stays."""
        self._requested = self._requested or reason

    @property
    def is_requested(self) -> bool:
        """Whether this rank has asked."""
        return self._requested is not None

    def facts(self) -> dict[str, Any] | None:
        """What run.json says of an end before the last step: after which step, and why. None: there was none."""
        return None if self.step is None else {"step": self.step, "reason": self.reason, "rule": self._by_rule}

    def agree(self, step: int) -> None:
        """End after this step, for the reason of the first rank that has one. Every rank must call it."""
        if self.step is None:
            reasons = [reason for reason in comm.gather_objects(self._requested) if reason is not None]
            self.decide(step, reasons[0])
            say(f"the run ends after step {step}: {self.reason}")

    def decide(self, step: int, reason: str, *, by_rule: bool = False) -> None:
        """End after this step. by_rule: of the recipe, not a callback. Every rank calls it with the same arguments."""
        self.step, self.reason, self._by_rule = step, reason, by_rule
