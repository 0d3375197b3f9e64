"""The base class of replacement rules, and the lookup of a recipe's rule in the folder `rules/`.

To add a rule, add a file with a class `Rule(ReplacementRule)` to `rules/`. No other file has to be changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import ClassVar

import numpy as np

from harness.mining import rules
from harness.mining.judging.slots import Judgement, Slots, Standing


class ReplacementRule:
    """Decides which negatives in use are easy, and which slots of their queries get the next candidates.

    A query has M slots with one negative each. S [B, M] is the latest similarity of query and negative. S0 is their
    first similarity since the negative came into its slot. Each task has its own rule object, and gets a new one when
    its candidates are ranked again. If a rule remembers something between judgements, `state` must return it; what it
    remembers of each negative, the bank keeps and stores (`memory`).

    A rule implements `easy`; one that judges by its memory, or knows negatives that are too hard, implements `judge`.
    """

    default_numbers: ClassVar[Mapping[str, float]]  # the numbers of the recipe's section `mining` that the rule takes
    default_interval: ClassVar[int] = 1  # steps between two judgements
    memory: ClassVar[Mapping[str, float]] = {}  # numbers that the bank keeps per slot → the value of an unused negative
    compares: ClassVar[bool] = False  # whether `remember` is told where the negatives stand among the step's documents
    replaces_windows: ClassVar[bool] = False  # whether all negatives of a query are replaced together

    def __init__(self, name: str, numbers: Mapping[str, float], interval: int) -> None:
        """name: the rule's name in the recipe. numbers: a value per name in `default_numbers`. interval: in steps."""
        self.name, self.numbers, self.interval = name, dict(numbers), interval

    def judges_after(self, step: int) -> bool:
        """Whether the queries seen since the last judgement are judged after this step."""
        return step % self.interval == 0

    def remember(self, memory: Mapping[str, np.ndarray], standing: Standing) -> dict[str, np.ndarray]:
        """The memory after a use of the negatives: name → [B, M]. Called if `compares`; empty slots are ignored."""
        return dict(memory)

    def judge(self, slots: Slots) -> Judgement:
        """Which negatives to replace, and why. This default: those that `easy` names; none is too hard."""
        easy_BM = self.easy(slots.row_B, slots.start_BM, slots.similarity_BM)
        return Judgement(easy_BM, np.zeros_like(easy_BM))

    def easy(self, row_B: np.ndarray, start_BM: np.ndarray, similarity_BM: np.ndarray) -> np.ndarray:
        """Bool [B, M]: the slots whose negative has become easy.

        row_B: distinct rows of the training data, ascending. start_BM: S0. similarity_BM: S. If either is NaN, the slot
        is empty or has not been seen; it must not count as easy.
        """
        raise NotImplementedError(f"mining.rule {self.name}: implement easy or judge")

    def next_ranks(self, leaving_BM: np.ndarray, next_ranks_of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Ranks [B, M] of the new candidates; -1 for a slot that keeps its negative.

        leaving_BM: every row has at least one negative to replace. next_ranks_of: takes the slots to fill, bool [B, M],
        and returns the next ranks in order, -1 where the query has no further candidate. This default fills exactly the
        leaving slots.
        """
        return next_ranks_of(leaving_BM)

    def measured(self) -> dict[str, float]:
        """Thresholds that the rule has taken from the run's own similarities, by the setting; NaN: not known yet."""
        return {}

    def fixed_thresholds(self) -> dict[str, float]:
        """Constant thresholds of S or S0, by the label of the threshold's line in the report's figure."""
        return {}

    def moving_thresholds(self, start_P: np.ndarray) -> dict[str, np.ndarray]:
        """Thresholds that depend on S0, by label: one value [P] for the mean S0 of each recorded step."""
        return {}

    def state(self) -> dict[str, np.ndarray]:
        """The state of this rule to store in a checkpoint. The bank stores its own state."""
        return {}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Restore a result of `state()`."""
        return None


def rule_names() -> list[str]:
    """The names of all rules, sorted."""
    return sorted(module.name for module in iter_modules(rules.__path__))


def rule_class(name: str) -> type[ReplacementRule]:
    """The class of the rule in the file `rules/NAME.py`."""
    rule = import_module(f"{rules.__name__}.{name}").Rule
    assert issubclass(rule, ReplacementRule)
    return rule


def seen_slots(start_BM: np.ndarray, similarity_BM: np.ndarray) -> np.ndarray:
    """Bool [B, M]: the slots that have both an S0 and an S."""
    return ~(np.isnan(start_BM) | np.isnan(similarity_BM))
