"""The arms of `python -m benchmarks.evidence` (the variants that are compared) and the sizes of the experiment.

Negatives: same start, same training queries. `in_batch` spends on more queries what the others would spend on hard
negatives if these were as long as documents are on average. A weak model ranks short ones first, so that `static` has
fewer tokens; `in_batch_as_static` has as many as these. FILTERED arms leave likely false negatives out twice: in the
bank (`harness mine --relative 0.95`, in a re-ranking likewise) and in the loss (`negatives.margin`), which sees what
the model has become.

Mixture: the same examples of four tasks in the same order; arms differ in what a step holds. A turn of a task is
`examples` examples.

| arm | a step holds | steps |
| --- | --- | --- |
| cbb | a turn of every task | turns |
| homogeneous | two turns of one retrieval task, a turn of the others | turns |
| cbb_step | as cbb, and all tasks' documents are negatives of every query | turns |
| alternate | a turn of one task | 4 · turns |
| control | four turns of one task | turns |
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.evidence.inputs.data import DataSize

NUM_TASKS = 4
RELATIVE, MARGIN = 0.95, 0.1  # of the filter, in mining and in the loss
CURVE = "curve"  # the run that fixes the number of steps: in_batch at a constant rate
# Watches S and S0 and never judges, so that the curves show how static negatives go stale. The losses are those of
# rule none.
_WATCHED_ONLY = {"rule": "v1", "interval": 10**9}

Part = Literal["negatives", "mixture"]
Balance = Literal["cbb", "alternate", "homogeneous"]


@dataclass(frozen=True, slots=True)
class NegativesArm:
    """mining: the recipe's section. bank: of `BANKS`; None: no hard negatives. reranked: at each quarter of the run,
    three times after the bank's own ranking. drawn: others of the bank at every use, whatever they have become: what
    replacement does without any rule. tokens_of: an arm without hard negatives has as many tokens a step as this arm
    had in its sweep; None: by the mean lengths.

    baselines: the arms it is compared with. rate_of: the arm whose learning rate it takes, unless every arm is swept.
    """

    mining: dict[str, Any] = field(default_factory=lambda: dict(_WATCHED_ONLY))
    bank: str | None = "start"
    filtered: bool = False
    reranked: bool = False
    drawn: bool = False
    tokens_of: str | None = None
    baselines: tuple[str, ...] = ("in_batch", "static")
    rate_of: str = "static"


# Bank → (whose ranking: the starting model's, or all of all-MiniLM-L6-v2's; whether `--relative` filters it)
BANKS = {"start": (False, False), "start_filtered": (False, True), "teacher_filtered": (True, True)}


def _filtered(mining: dict[str, Any], *baselines: str, reranked: bool = False) -> NegativesArm:
    return NegativesArm(mining, "start_filtered", filtered=True, reranked=reranked, baselines=baselines)


NEGATIVES: dict[str, NegativesArm] = {  # by importance: the first ones run first
    "in_batch": NegativesArm({"rule": "none"}, bank=None, baselines=(), rate_of="in_batch"),
    "static": NegativesArm(baselines=("in_batch", "in_batch_as_static")),
    "static_filtered": _filtered(_WATCHED_ONLY, "in_batch", "static"),
    "v1": NegativesArm({"rule": "v1"}),
    "v2": NegativesArm({"rule": "v2"}),
    "v2_reranked": NegativesArm({"rule": "v2"}, reranked=True, baselines=("in_batch", "static", "v2", "reranked")),
    "relative": NegativesArm({"rule": "relative"}),
    "drawn": NegativesArm({"rule": "none"}, drawn=True),
    "reranked": NegativesArm(reranked=True),
    "in_batch_as_static": NegativesArm(
        {"rule": "none"}, bank=None, tokens_of="static", baselines=("in_batch",), rate_of="in_batch"
    ),
    "v1_filtered": _filtered({"rule": "v1"}, "in_batch", "static_filtered", "v1"),
    "v2_filtered": _filtered({"rule": "v2"}, "in_batch", "static_filtered", "v2"),
    "v2_reranked_filtered": _filtered(
        {"rule": "v2"}, "in_batch", "static_filtered", "v2_reranked", "reranked_filtered", reranked=True
    ),
    "reranked_filtered": _filtered(_WATCHED_ONLY, "in_batch", "static_filtered", "reranked", reranked=True),
    "relative_filtered": _filtered({"rule": "relative"}, "in_batch", "static_filtered", "relative"),
    "v2_auto": NegativesArm({"rule": "v2", "floor": "auto"}, baselines=("in_batch", "static", "v2")),
    "relative_reranked": NegativesArm(
        {"rule": "relative", "successor": "score"}, reranked=True, baselines=("in_batch", "static", "relative")
    ),
    "teacher": NegativesArm(bank="teacher_filtered", baselines=("in_batch", "static", "static_filtered")),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class MixtureArm:
    """`turns_at_once` turns of a task in a step that holds it. scope: whose documents are negatives of a query.

    A step of `control` has four times the queries of a task, so that each has four times the in-batch negatives of cbb;
    `cbb_step` gives cbb about as many, of other tasks.
    """

    balance: Balance
    turns_at_once: int = 1
    baselines: tuple[str, ...] = ("alternate", "control")
    scope: Literal["task", "step"] = "task"

    def steps(self, turns: int) -> int:
        """Number of steps until every task has had all its turns."""
        return turns * NUM_TASKS // self.turns_at_once if self.balance == "alternate" else turns


MIXTURE: dict[str, MixtureArm] = {
    "cbb": MixtureArm("cbb"),
    "alternate": MixtureArm("alternate", baselines=()),
    "control": MixtureArm("alternate", turns_at_once=NUM_TASKS, baselines=("alternate",)),
    "homogeneous": MixtureArm("homogeneous", baselines=("alternate", "control", "cbb")),
    "cbb_step": MixtureArm("cbb", baselines=("cbb", "control"), scope="step"),
}


@dataclass(frozen=True, slots=True)
class MixtureSize:
    """turns: of each task, a multiple of NUM_TASKS. per_query: negatives of a classified text."""

    examples: int
    turns: int
    per_query: int
    rates: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Size:
    """Amount of data, length and settings of a run.

    quota: queries of a step with hard negatives. per_query: hard negatives of a query. rates: learning rates,
    ascending; swept: the arms that try them, by the dev set, at seed 0. curve_steps: of the run that shows where
    in-batch training flattens; the runs get 1.5 times as many steps, between least_steps and most_steps.
    v1_interval: steps between two judgements of v1.
    """

    data: DataSize
    candidates: int
    max_length: int
    precision: str
    quota: int
    per_query: int
    rates: tuple[float, ...]
    swept: tuple[str, ...]
    curve_steps: int
    least_steps: int
    most_steps: int
    v1_interval: int
    mixture: MixtureSize


_ALL = tuple(NEGATIVES)
SIZES = {
    "small": Size(
        DataSize(1200, None, 400, 800, 1500, 4000, 8),
        100, 64, "bf16", 24, 4, (1e-4, 2e-4, 5e-4, 1e-3), ("in_batch", "static"), 640, 260, 320, 20,
        MixtureSize(16, 120, 3, (1e-4, 2e-4, 5e-4, 1e-3)),
    ),
    "gpu": Size(
        DataSize(None, None, None, None, None, None, 8),
        200, 128, "bf16", 256, 7, (1e-4, 2e-4, 5e-4), _ALL, 3000, 400, 3000, 50,
        MixtureSize(128, 1000, 7, (5e-5, 1e-4, 2e-4)),
    ),
    "tiny": Size(
        DataSize(12, 60, 6, 12, 8, 40, 2),
        30, 16, "fp32", 3, 2, (1e-3, 2e-3), ("in_batch", "static"), 20, 16, 16, 4,
        MixtureSize(2, 4, 2, (1e-3, 2e-3)),
    ),
}  # fmt: skip
VISITS = 4  # least number of times that a run with hard negatives uses every training query
