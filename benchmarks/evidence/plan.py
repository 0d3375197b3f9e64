"""Which runs the experiment has, in which order, with which learning rates, and how many steps they take.

    curve → learning rates (seed 0) → seed 0 of all arms, seed 1, …          negatives
          → learning rates (seed 0) → seed 0 of all arms, seed 1, …          mixture

A stage is a list of runs that need nothing of each other. What the next stage is may depend on the scores of earlier
ones on the development sets, never on a test set.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from pydantic import ValidationError

from benchmarks.evidence.arms import CURVE, MIXTURE, NEGATIVES, Part, Size
from benchmarks.evidence.recipes import Run
from harness.mining.config import MiningConfig

PARTS: tuple[Part, ...] = ("negatives", "mixture")
SWEEP_SEED = 0
FLAT = 0.005  # what an evaluation must add to the dev score to count
_STEPS_AFTER_FLAT = 1.5  # the runs take so many times the steps after which the curve is flat


@dataclass(frozen=True, slots=True)
class Planned:
    """A run, and whether it is scored on the test sets: those that only serve to choose a rate are not."""

    run: Run
    tested: bool


DevScore = Callable[[Run], float]  # of a finished run, at its last step


def stages(
    size: Size, seeds: Sequence[int], parts: Collection[Part], wanted: Collection[tuple[str, int]] | None, dev: DevScore
) -> Iterator[list[Planned]]:
    """The stages, one after the other: a stage is computed when all runs of the earlier ones are finished.

    wanted: only these (arm, seed) and what chooses their rates; None: all.
    """
    if "negatives" in parts:
        yield [Planned(curve_run(size), tested=False)]
    for part in (part for part in PARTS if part in parts):
        wanted_arms = [arm for arm in arms_of(part) if wanted is None or any(arm == name for name, _ in wanted)]
        yield [Planned(run, tested=False) for run in sweep(part, wanted_arms, size)]
        for seed in seeds if wanted is None else sorted({seed for _, seed in wanted}):
            arms = [arm for arm in wanted_arms if wanted is None or (arm, seed) in wanted]
            yield [Planned(Run(arm, chosen_rate(arm, size, dev), seed), tested=True) for arm in arms]


def arms_of(part: Part) -> list[str]:
    """The arms that this version can run, by importance."""
    return [arm for arm in (NEGATIVES if part == "negatives" else MIXTURE) if reason_to_skip(arm) is None]


def reason_to_skip(arm: str) -> str | None:
    """Why an arm cannot run with this version; None if it can."""
    refusal = _refusal(NEGATIVES[arm].mining) if arm in NEGATIVES else None
    return None if refusal is None else f"{arm}: not run, this version refuses mining {refusal}"


def _refusal(mining: Mapping[str, Any]) -> str | None:
    """The setting of a recipe's section `mining` that this version does not know, and why, in a line; None if all."""
    try:
        MiningConfig.model_validate(mining)
    except ValidationError as error:
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc'])) or 'settings'}: {first['input']} ({first['msg']})"
    return None


def curve_run(size: Size) -> Run:
    """The run that shows where in-batch training flattens: at a constant rate, so that no schedule flattens it."""
    return Run(CURVE, size.rates[len(size.rates) // 2], SWEEP_SEED)


def rate_source(arm: str, size: Size) -> str:
    """The arm whose sweep gives an arm its learning rate."""
    if arm in MIXTURE or arm in size.swept:
        return arm
    return NEGATIVES[arm].rate_of


def rates_of(arm: str, size: Size) -> tuple[float, ...]:
    """The learning rates that an arm may have."""
    return size.mixture.rates if arm in MIXTURE else size.rates


def sweep(part: Part, arms: Sequence[str], size: Size) -> list[Run]:
    """The runs that choose the rates of these arms, and the number of queries of those without hard negatives."""
    counted = [NEGATIVES[arm].tokens_of for arm in arms if arm in NEGATIVES]
    sources = dict.fromkeys([*(rate_source(arm, size) for arm in arms), *filter(None, counted)])
    assert all(source in arms_of(part) for source in sources)
    return [Run(source, rate, SWEEP_SEED) for source in sources for rate in rates_of(source, size)]


def chosen_rate(arm: str, size: Size, dev: DevScore) -> float:
    """The rate with the highest score on the development sets, of equal ones the lowest."""
    source = rate_source(arm, size)
    return best_rate({rate: dev(Run(source, rate, SWEEP_SEED)) for rate in rates_of(source, size)})


def best_rate(score_of_rate: Mapping[float, float]) -> float:
    """The rate with the highest score, of equal ones the lowest."""
    return max(sorted(score_of_rate), key=lambda rate: score_of_rate[rate])


def num_runs(size: Size, seeds: Sequence[int], parts: Collection[Part]) -> int:
    """Number of runs of the whole experiment; a run of a sweep that is also tested counts once."""
    num_swept = num_tested = num_shared = 0
    for part in parts:
        arms = arms_of(part)
        num_swept += len(sweep(part, arms, size))
        num_tested += len(arms) * len(seeds)
        # One rate of each swept arm is tested at the sweep's seed, too.
        num_shared += len({rate_source(arm, size) for arm in arms}) * (SWEEP_SEED in seeds)
    return num_swept + num_tested - num_shared + ("negatives" in parts)


def flat_step(score_of_step: Mapping[int, float]) -> int | None:
    """The first step after which no evaluation adds more than FLAT to the best score so far; None: it still rises.

    Two evaluations at least must follow.
    """
    steps = sorted(score_of_step)
    for i, step in enumerate(steps[:-2]):
        best = max(score_of_step[s] for s in steps[: i + 1])
        if max(score_of_step[s] for s in steps[i + 1 :]) <= best + FLAT:
            return step
    return None


def steps_of_runs(score_of_step: Mapping[int, float], size: Size) -> int:
    """Number of steps of the runs that compare negatives: 1.5 times those after which the curve is flat, within the
    limits of the size; most_steps if it still rises. A multiple of 4."""
    flat = flat_step(score_of_step)
    wished = size.most_steps if flat is None else ceil(_STEPS_AFTER_FLAT * flat)
    return -(-min(max(wished, size.least_steps), size.most_steps) // 4) * 4
