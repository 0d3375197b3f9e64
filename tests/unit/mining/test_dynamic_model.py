"""Dynamic replacement, also continued from a saved state, equals a model by loops in randomly generated runs."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.mining.config import MiningConfig, build_rule
from tests.dynamic_run import Run

NUM_STEPS = 20
SIMILARITIES = [number / 16 for number in (-8, -1, 0, 3, 5, 7, 8, 9, 10, 12, 13, 15)]  # sums and means are exact


class Model:
    """Dynamic replacement written from its definition, by loops over rows and slots. It keeps all decisions."""

    def __init__(self, counts: list[int], num_slots: int, offset: int, config: MiningConfig) -> None:
        rule = build_rule(config)
        assert rule is not None
        self.counts, self.offset, self.config, self.rule = counts, offset, config, rule
        self.by_window = config.rule == "v1"
        first = list(range(offset, offset + num_slots))
        self.decided = [[(0, first)] for _ in counts]  # per row: (first step that uses them, ranks)
        self.start: list[list[float | None]] = [[None] * num_slots for _ in counts]
        self.next = [offset + num_slots] * len(counts)
        self.seen: dict[int, list[float | None]] = {}

    def ranks(self, row: int, step: int) -> list[int]:
        return [ranks for first_step, ranks in self.decided[row] if first_step <= step][-1]

    def step(self, step: int, similarity: dict[int, list[float]]) -> tuple[int, int]:
        """Observe a step; return the numbers of replaced and of exhausted negatives."""
        for row, values in similarity.items():
            used, decided = self.ranks(row, step), self.decided[row][-1][1]
            self.seen[row] = [
                value if used[slot] == decided[slot] and used[slot] < self.counts[row] else None
                for slot, value in enumerate(values)
            ]
            for slot, value in enumerate(self.seen[row]):
                if self.start[row][slot] is None:
                    self.start[row][slot] = value
        replaced = exhausted = 0
        if step % self.rule.interval == 0:
            for row in self.seen:
                easy = self.easy(row)
                moved = self.move(row, easy, step)
                replaced, exhausted = replaced + len(moved), exhausted + len(set(easy) - set(moved))
            self.seen = {}
        return replaced, exhausted

    def easy(self, row: int) -> list[int]:
        pairs = {
            slot: (start, now)
            for slot, (start, now) in enumerate(zip(self.start[row], self.seen[row], strict=True))
            if start is not None and now is not None
        }
        if not self.by_window:
            return [slot for slot, (start, now) in pairs.items() if self.low(start) or self.fell(start, now, now)]
        if not pairs:
            return []
        start, now = (sum(pair[i] for pair in pairs.values()) / len(pairs) for i in (0, 1))
        return list(pairs) if self.fell(start, now, abs(now)) else []

    def low(self, start: float) -> bool:
        return "floor" in self.rule.numbers and start < self.rule.numbers["floor"]

    def fell(self, start: float, now: float, size: float) -> bool:
        return start > 0 and self.rule.numbers["ratio"] * now < start and size < self.rule.numbers["ceiling"]

    def move(self, row: int, easy: list[int], step: int) -> list[int]:
        ranks, count = self.decided[row][-1][1], self.counts[row]
        onward = list(range(self.next[row], count))
        if self.config.exhausted == "wrap":
            onward += list(range(self.offset, min(self.next[row], count)))
        free = [rank for rank in onward if rank not in ranks]
        leaving = list(range(len(ranks))) if self.by_window and easy else easy
        if self.by_window and len(free) < len(leaving):
            return []
        moved = dict(zip(leaving, free, strict=False))
        if moved:
            self.decided[row].append((step + 1 + self.config.delay, [moved.get(s, r) for s, r in enumerate(ranks)]))
            self.next[row] = list(moved.values())[-1] + 1
            for slot in moved:
                self.start[row][slot] = None
        return list(moved)


@st.composite
def runs(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[int, list[float]]]]:
    """Draw a run's settings and the similarities of its steps. Most steps contain most rows, so that there are many
    replacements.
    """
    slots, rule = draw(st.integers(1, 3)), draw(st.sampled_from(["v1", "v2"]))
    counts = draw(st.lists(st.integers(0, 12), min_size=1, max_size=3))
    run = {
        "counts": counts,
        "num_slots": slots,
        "offset": draw(st.integers(0, 3)),
        "rule": rule,
        "interval": draw(st.integers(1, 3)),
        "delay": draw(st.integers(1, 3)),
        "exhausted": draw(st.sampled_from(["keep", "wrap"])),
        **({"floor": -1.0} if rule == "v2" and draw(st.booleans()) else {}),
    }
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    return run, [
        {row: random.choice(SIMILARITIES, slots).tolist() for row in range(len(counts)) if random.random() < 0.8}
        for _ in range(NUM_STEPS)
    ]


@settings(max_examples=300, deadline=None)
@given(case=runs())
def test_every_decision_is_the_models_and_is_seen_when_the_model_says(case) -> None:
    """Also: a plan made `delay` steps ahead equals one made just before its step; no candidate is used twice."""
    given_, seen = case
    run = Run(**given_)
    model = Model(given_["counts"], given_["num_slots"], given_["offset"], run.config)
    ahead: dict[int, list[list[int]]] = {}
    rows = range(len(given_["counts"]))
    for step, similarity in enumerate(seen, start=1):
        now = [run.ranks(step, row) for row in rows]
        assert now == [model.ranks(row, step) for row in rows] == ahead.get(step, now)
        assert all(len(set(ranks)) == len(ranks) for ranks in now)
        metrics = run.step(step, similarity)
        assert (metrics["negatives_replaced"], metrics["negatives_exhausted"]) == model.step(step, similarity)
        expected = [[np.nan if start is None else start for start in model.start[row]] for row in rows]
        np.testing.assert_array_equal([run.start(row) for row in rows], expected)
        later = step + 1 + run.config.delay
        ahead[later] = [run.ranks(later, row) for row in rows]


@settings(max_examples=150, deadline=None)
@given(case=runs(), moments=st.sets(st.integers(1, NUM_STEPS)))
def test_a_run_continued_from_its_state_goes_on_as_if_nothing_had_been(case, moments) -> None:
    given_, seen = case
    uninterrupted, continued = Run(**given_), Run(**given_)
    rows = range(len(given_["counts"]))
    for step, similarity in enumerate(seen, start=1):
        assert [uninterrupted.ranks(step, row) for row in rows] == [continued.ranks(step, row) for row in rows]
        np.testing.assert_equal(uninterrupted.step(step, similarity), continued.step(step, similarity))
        if step in moments:
            continued.reload()
        np.testing.assert_equal(continued.negatives.state(), uninterrupted.negatives.state())


def test_the_cases_hold_replacements_exhaustion_and_overlapping_decisions() -> None:
    """Otherwise the two tests above would test little."""
    counted = {"replaced": 0, "exhausted": 0, "overlaps": 0, "wrapped": 0}

    @settings(max_examples=300, deadline=None, database=None, derandomize=True)
    @given(case=runs())
    def count(case) -> None:
        given_, seen = case
        run = Run(**given_)
        model = Model(given_["counts"], given_["num_slots"], given_["offset"], run.config)
        for step, similarity in enumerate(seen, start=1):
            replaced, exhausted = model.step(step, similarity)
            counted["replaced"] += replaced
            counted["exhausted"] += exhausted
        for history in model.decided:
            steps, windows = zip(*history, strict=True)
            counted["overlaps"] += sum(b - a <= run.config.delay for a, b in pairwise(steps[1:]))
            counted["wrapped"] += any(min(b) < min(a) for a, b in pairwise(windows))

    count()
    assert min(counted.values()) >= 10, counted
