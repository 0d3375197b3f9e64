"""A target of the fuzzer: what inputs it gets, and how one is tried. Inputs are drawn by hypothesis, in batches."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase

from tests.fuzz.judgement import Find
from tests.fuzz.values import with_other_seeds

VARIATIONS = 4  # inputs of what hypothesis draws once, which takes longer than to try an input


@dataclass(frozen=True, slots=True)
class Target:
    """inputs: strategy of what `attempt` gets, beside a scratch folder that lives as long as the batch.

    share: how many of a run's inputs are this target's, in proportion; less for inputs that take longer.
    """

    name: str
    inputs: hypothesis.strategies.SearchStrategy[Any]
    attempt: Callable[[Any, Path], Find | str]
    share: float = 1.0


@dataclass(slots=True)
class Tally:
    """What came of the inputs of a target. finds: by place, what happened and the shortest input that leads there."""

    read: int = 0
    refused: int = 0
    seconds: float = 0.0
    inputs: set[bytes] = field(default_factory=set)  # hashes, to count those that differ
    finds: dict[str, tuple[str, str]] = field(default_factory=dict)
    found: Counter[str] = field(default_factory=Counter)

    def note(self, drawn: Any, result: Find | str) -> None:
        """Count one input."""
        shown = repr(drawn)
        self.inputs.add(hashlib.blake2b(shown.encode("utf-8", "surrogatepass"), digest_size=8).digest())
        if isinstance(result, Find):
            self.found[result.place] += 1
            known = self.finds.get(result.place)
            if known is None or len(shown) < len(known[1]):
                self.finds[result.place] = (result.what, shown)
        elif result == "read":
            self.read += 1
        else:
            self.refused += 1

    def add(self, other: Tally) -> None:
        """Add the counts of another batch."""
        self.read, self.refused = self.read + other.read, self.refused + other.refused
        self.seconds += other.seconds
        self.inputs |= other.inputs
        self.found += other.found
        for place, (what, shown) in other.finds.items():
            known = self.finds.get(place)
            if known is None or len(shown) < len(known[1]):
                self.finds[place] = (what, shown)

    @property
    def total(self) -> int:
        """All inputs that were tried."""
        return self.read + self.refused + sum(self.found.values())


def run_batch(target: Target, num_inputs: int, seed: int) -> Tally:
    """Try inputs of a target, the same ones for the same seed."""
    tally, started = Tally(), time.perf_counter()
    with tempfile.TemporaryDirectory(dir=_memory_disk()) as scratch:

        @hypothesis.seed(seed)
        @hypothesis.settings(
            max_examples=-(-num_inputs // VARIATIONS),
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @hypothesis.given(target.inputs)
        def attempt(drawn: Any) -> None:
            for number in range(VARIATIONS):
                varied = with_other_seeds(drawn, number) if number else drawn
                if tally.total < num_inputs:
                    tally.note(varied, _tried(target, varied, Path(scratch)))

        attempt()
    tally.seconds = time.perf_counter() - started
    return tally


def _tried(target: Target, drawn: Any, scratch: Path) -> Find | str:
    try:
        return target.attempt(drawn, scratch)
    except Exception as error:  # a mistake of the fuzzer, which must not end a run of a million inputs
        return Find(f"the fuzzer itself: {type(error).__name__}", str(error)[:300])


def _memory_disk() -> str | None:
    """A folder in memory if there is one: millions of small files."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None
