"""How memory, seconds and texts per second of a recipe grow with ranks and with texts a step, and what is assumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.data.batch.micro_batches import padded_length
from harness.prediction.of_recipe import Predictor
from harness.prediction.predict import Prediction, Setup, StepSize, predict
from harness.prediction.seconds import bandwidth
from harness.types import StepPlan

RANKS = tuple(2**power for power in range(11))  # 1 to 1,024
TEXTS = tuple(round(10 ** (power / 2)) for power in range(4, 13))  # 100 to 1,000,000
STAGES = (0, 1, 2, 3)
TEXTS_PER_RANK = 1024  # where the number of ranks varies


@dataclass(frozen=True, slots=True)
class Scaling:
    """by_ranks: ZeRO stage → a prediction per number of `RANKS`, each rank with `TEXTS_PER_RANK` texts. by_texts:
    number of ranks → a prediction per number of `TEXTS`. assumptions: one per line."""

    by_ranks: dict[int, list[Prediction]]
    by_texts: dict[int, list[Prediction]]
    assumptions: list[str]


def scaling(predictor: Predictor, plan: StepPlan, ranks: Sequence[int] = (8, 64, 1024)) -> Scaling:
    """Predictions to 1,024 ranks and 10⁶ texts a step, for texts like those of this step."""
    by_ranks = {
        stage: [_at(predictor, plan, count, TEXTS_PER_RANK * count, stage) for count in RANKS] for stage in STAGES
    }
    stage = predictor.setup.zero.stage
    by_texts = {count: [_at(predictor, plan, count, texts, stage) for texts in TEXTS] for count in ranks}
    return Scaling(by_ranks, by_texts, _assumptions(predictor, plan))


def _at(predictor: Predictor, plan: StepPlan, ranks: int, texts: int, stage: int) -> Prediction:
    zero = replace(predictor.setup.zero, stage=stage)
    setup: Setup = replace(predictor.setup, ranks=ranks, zero=zero)
    return predict(setup, predictor.model, _step(predictor, plan, ranks, texts))


def _step(predictor: Predictor, plan: StepPlan, ranks: int, texts: int) -> StepSize:
    """A step of `texts` texts like those of `plan`, dealt evenly: full micro-batches of the mean padded length."""
    length = round(float(padded_length(plan.texts.length_T).mean()))
    own, per_batch = -(-texts // ranks), max(1, predictor.micro_batch_tokens // length)
    full, rest = divmod(own, per_batch)
    shapes = [(per_batch, length)] * full + [(rest, length)] * (rest > 0)
    return StepSize([shapes], own * ranks, predictor.score_size(plan).scaled(texts))


def _assumptions(predictor: Predictor, plan: StepPlan) -> list[str]:
    setup, device = predictor.setup, predictor.setup.device
    inside, between = bandwidth(device, 1), bandwidth(device, max(RANKS))
    mean = round(float(padded_length(plan.texts.length_T).mean()))
    gather, kept = predictor.score_size(plan).setting, setup.training.activation_memory
    return [
        f"{device.name}: {setup.utilisation:.0%} of its matrix rate in {setup.training.precision} (assumed)",
        f"texts of {mean} tokens each, padding included, as in this step; micro-batches of "
        f"{predictor.micro_batch_tokens:,} tokens; work even over the ranks",
        f"a rank sends {_rate(inside)} within a host of 8 and {_rate(between)} beyond it, in rings, without latency",
        "computing and sending do not overlap; reading data, evaluating and saving not counted",
        f"lower panels: ZeRO {setup.zero.stage}; buffers as the JSON says",
        f"loss.gather: {gather}; training.activation_memory: {kept}",
    ]


def _rate(bytes_per_second: float | None) -> str:
    return "at an unknown rate" if bytes_per_second is None else f"{bytes_per_second / 1e9:g} GB/s"
