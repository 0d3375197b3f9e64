"""Rule v2 (Conan-embedding-v2, arXiv 2509.12892, equation 6): judges and replaces each negative independently."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from harness.mining.replacement_rule import ReplacementRule, seen_slots

AUTO_QUANTILE = 0.1  # `floor: auto` replaces at first sight what would be the lowest tenth of the first negatives
AUTO_JUDGEMENTS = 10  # so many, with negatives seen for the first time, decide the floor


class Rule(ReplacementRule):
    """Easy if S0 < floor, or if S0 > 0 and ratio * S < S0 and S < ceiling.

    The test S0 > 0 is needed because with a negative S0, any S slightly below S0 would pass the ratio test.

    A floor of NaN (`floor: auto` in the recipe) becomes the lowest tenth of the S0 of the first ten judgements, and of
    the first ten after the candidates are ranked again. Until then no negative counts as below the floor.
    """

    default_numbers: ClassVar[Mapping[str, float]] = {"ratio": 1.2, "ceiling": 0.7, "floor": 0.4}
    default_interval = 1

    def __init__(self, name: str, numbers: Mapping[str, float], interval: int) -> None:
        super().__init__(name, numbers, interval)
        self._measures_floor = bool(np.isnan(self.numbers["floor"]))
        self._first: list[tuple[np.ndarray, np.ndarray]] = []  # rows and S0 of the first judgements

    def easy(self, row_B: np.ndarray, start_BM: np.ndarray, similarity_BM: np.ndarray) -> np.ndarray:
        if np.isnan(self.numbers["floor"]):
            self._measure_floor(row_B, start_BM)
        ratio, ceiling, floor = (self.numbers[name] for name in ("ratio", "ceiling", "floor"))
        with np.errstate(invalid="ignore"):
            has_fallen_BM = (start_BM > 0) & (ratio * similarity_BM < start_BM) & (similarity_BM < ceiling)
            easy_BM = has_fallen_BM | (start_BM < floor)
        return seen_slots(start_BM, similarity_BM) & easy_BM

    def _measure_floor(self, row_B: np.ndarray, start_BM: np.ndarray) -> None:
        """Record S0; after enough judgements, set the floor. A query that was seen several times counts once.

        A negative that the loss left out at first counts with the S0 that it got later.
        """
        if np.isnan(start_BM).all():
            return
        self._first.append((row_B, start_BM))
        if len(self._first) < AUTO_JUDGEMENTS:
            return
        row_U = np.unique(np.concatenate([row_B for row_B, _ in self._first]))
        first_UM = np.full((len(row_U), start_BM.shape[1]), np.nan)
        for row_B, start_BM in reversed(self._first):  # so that earlier ones stand
            place_B = np.searchsorted(row_U, row_B)
            first_UM[place_B] = np.where(np.isnan(start_BM), first_UM[place_B], start_BM)
        self.numbers["floor"] = float(np.nanquantile(first_UM, AUTO_QUANTILE))
        self._first = []

    def measured(self) -> dict[str, float]:
        return {"floor": self.numbers["floor"]} if self._measures_floor else {}

    def state(self) -> dict[str, np.ndarray]:
        if not self._measures_floor:
            return {}
        state = {"floor": np.array(self.numbers["floor"]), "judgements": np.array(len(self._first))}
        for number, (row_B, start_BM) in enumerate(self._first):
            state |= {f"row{number}": row_B, f"start{number}": start_BM}
        return state

    def load_state(self, state: Mapping[str, np.ndarray]) -> None:
        if self._measures_floor:
            self.numbers["floor"] = float(state["floor"])
            self._first = [(state[f"row{n}"], state[f"start{n}"]) for n in range(int(state["judgements"]))]

    def fixed_thresholds(self) -> dict[str, float]:
        """Without a floor that the run measures: the report draws that one from the run's own records."""
        ceiling, floor = self.numbers["ceiling"], self.numbers["floor"]
        at_floor = {} if np.isnan(floor) else {f"S0 below {floor:g}: replaced at once": floor}
        return {f"S below {ceiling:g} only": ceiling, **at_floor}

    def moving_thresholds(self, start_P: np.ndarray) -> dict[str, np.ndarray]:
        return {f"S0 / {self.numbers['ratio']:g}": start_P / self.numbers["ratio"]}
