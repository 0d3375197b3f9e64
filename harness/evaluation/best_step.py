"""Chooses, by `evaluation.main_metric`, the step of a run that becomes its model."""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.evaluation.results import selection_score
from harness.evaluation.runner import Results


@dataclass(frozen=True, slots=True)
class BestStep:
    """The steps that a run has scored (the starting model, step 0, is not among them), and which of them it has kept.

    main_metric: DATASET/METRIC; None: nothing is chosen, the model is the last step.
    """

    main_metric: str | None
    scores: Mapping[int, Results]
    kept: Set[int]

    def best(self, step: int | None = None) -> int | None:
        """The kept step (or this `step`) with the largest main metric, of equal ones the earliest, or None."""
        return self._best(self.kept | {step})

    def lost(self) -> int | None:
        """A step that was better than the best one that is kept, and is not kept itself; None: there is none."""
        ever = self._best(self.scores.keys())
        return None if ever == self.best() else ever

    def facts(self, last_step: int) -> dict[str, Any]:
        """What run.json says of the model: its step, the main metric, and the score it was chosen by (`best`)."""
        best = self.best()
        if best is None or self.main_metric is None:
            return {"model_step": last_step, "main_metric": self.main_metric, "best": None}
        chosen = {"step": best, "metric": self.main_metric, "score": self._value(best)}
        return {"model_step": best, "main_metric": self.main_metric, "best": chosen}

    def _best(self, steps: Set[int | None]) -> int | None:
        values = {step: self._value(step) for step in self.scores if step in steps and self._is_scored(step)}
        best = max(values, key=lambda step: (values[step], -step), default=None)
        return None if best is None or values[best] == -np.inf else best

    def _is_scored(self, step: int) -> bool:
        dataset, _, metric = (self.main_metric or "").rpartition("/")
        return metric in self.scores[step].get(dataset, {})

    def _value(self, step: int) -> float:
        return selection_score(self.scores[step], self.main_metric)
