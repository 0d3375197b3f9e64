"""What a replacement rule is, and how the rule that a recipe names is found in the folder `rules/`.

To add a rule, add a file to `rules/` with a class `Rule(ReplacementRule)`; no other file names it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import ClassVar

import numpy as np

from harness.mining import rules


class ReplacementRule(ABC):
    """Says which negatives in use have become easy, and which slots of their queries then take the next candidates.

    A query has M slots, each with one negative in use. S is the last similarity [B, M] of query and negative, S0 the
    first one since the negative came into its slot. A task has an object of its own, made anew when the task's
    candidates are ranked anew. A rule that remembers something from one judgement to the next returns it from `state`.
    """

    default_numbers: ClassVar[Mapping[str, float]]  # the numbers of the recipe's section `mining` that the rule takes
    default_interval: ClassVar[int] = 1  # steps between two judgements

    def __init__(self, name: str, numbers: Mapping[str, float], interval: int) -> None:
        """name: the recipe's. numbers: a value for every name in `default_numbers`. interval: in steps."""
        self.name, self.numbers, self.interval = name, dict(numbers), interval

    def judges_after(self, step: int) -> bool:
        """Whether the queries seen since the last judgement are judged after this step."""
        return step % self.interval == 0

    @abstractmethod
    def easy(self, row_B: np.ndarray, start_BM: np.ndarray, similarity_BM: np.ndarray) -> np.ndarray:
        """Bool [B, M]: the slots whose negative has become easy.

        row_B: rows of the training data, ascending, each once. start_BM: S0. similarity_BM: S. NaN in either marks an
        empty slot, or one that was not seen; it is never easy.
        """

    def next_ranks(self, easy_BM: np.ndarray, next_ranks_of: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """Ranks [B, M] of the candidates that come into use, -1 for a slot that keeps what it has.

        easy_BM: at least one easy slot in every row. next_ranks_of: from the slots to be filled, bool [B, M], to the
        next ranks in their order, -1 where the query's list of candidates has ended. As it stands here, each easy slot
        takes the next candidate by itself.
        """
        return next_ranks_of(easy_BM)

    def fixed_thresholds(self) -> dict[str, float]:
        """What S or S0 is compared with, by the words that the report's figure says of the line."""
        return {}

    def moving_thresholds(self, start_P: np.ndarray) -> dict[str, np.ndarray]:
        """The same for what depends on S0: the values [P] for each mean S0 of a recorded step."""
        return {}

    def state(self) -> dict[str, np.ndarray]:
        """What a checkpoint must keep of this rule, beside what the bank keeps."""
        return {}

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from what `state` gave."""
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
