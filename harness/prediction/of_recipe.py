"""From the sections of a recipe and its planned step to a prediction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from harness.data.batch.deal import deal
from harness.data.batch.micro_batches import padded_length
from harness.encoder.config import ModelConfig
from harness.engine.budget import cpu_tokens, tokens_that_fit
from harness.engine.config import TrainingConfig
from harness.losses.objective import Objective
from harness.prediction.counted.micro_batch import UnloadedModel
from harness.prediction.kept import Shape
from harness.prediction.machine.devices import Device, named_device
from harness.prediction.machine.this_machine import optimizer_temporaries, process_bytes, this_device
from harness.prediction.precision import NUMBERS
from harness.prediction.predict import MARGIN, Prediction, Setup, StepSize, predict
from harness.prediction.score import ScoreSize
from harness.prediction.seconds import CPU_UTILISATION, GPU_UTILISATION
from harness.prediction.states import ModelSize, states
from harness.prediction.zero_settings import ZeroSettings
from harness.types import Schedule, StepPlan


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the user says of the machine. gpu: a name of the table; None: this machine. utilisation: share of the
    device's matrix rate that a step reaches. network: bytes per second from a rank to other hosts. None: as known."""

    gpu: str | None = None
    utilisation: float | None = None
    network: float | None = None


THIS_MACHINE = Wishes()


class Predictor:
    """Predicts steps of one recipe on one kind of device."""

    def __init__(
        self,
        model: ModelConfig,
        training: TrainingConfig,
        objective: Objective,
        deepspeed_json: Mapping[str, Any],
        ranks: int,
        wishes: Wishes = THIS_MACHINE,
    ) -> None:
        """Builds the model without its weights; reads nothing but configurations.

        Raises:
            ValueError: the GPU is not in the table, or the model cannot be built.
        """
        device = named_device(wishes.gpu) if wishes.gpu else this_device(ranks)
        if wishes.network is not None:
            device = _with_network(device, wishes.network)
        default = GPU_UTILISATION if device.is_gpu else CPU_UTILISATION
        self._objective = objective
        self._base = process_bytes(on_gpu=device.is_gpu)
        self.setup = Setup(
            training=training,
            zero=ZeroSettings.of(deepspeed_json),
            device=device,
            ranks=ranks,
            process_bytes=self._base,
            temporaries=optimizer_temporaries(training),
            utilisation=wishes.utilisation or default,
        )
        numbers = NUMBERS[training.precision]
        self.model = UnloadedModel(model, training.dropout, numbers, on_gpu=device.is_gpu)

    @property
    def micro_batch_tokens(self) -> int:
        """The recipe's number; for `auto` what training would choose on an empty device of this kind."""
        setting, setup = self.setup.training.micro_batch_tokens, self.setup
        if setting != "auto":
            return int(setting)
        if not setup.device.is_gpu:
            return cpu_tokens(setup.training.activation_memory)
        size = ModelSize.of(self.model.encoder, setup.zero.persistence_threshold, setup.training)
        numbers = NUMBERS[setup.training.precision]
        averages = setup.training.ema is not None
        held = states(size, setup.zero, numbers, setup.ranks, setup.temporaries, on_gpu=True, averages=averages)
        free = int(setup.device.memory_bytes * (1 - MARGIN)) - self._base - held.weights - held.buffers
        return tokens_that_fit(max(0, free), self.model.encoder, setup.training.precision)

    def score_size(self, plan: StepPlan) -> ScoreSize:
        """What the losses of a planned step compare."""
        return ScoreSize.of(plan, self.model.encoder.dim, self._objective)

    def predict(self, plan: StepPlan) -> Prediction:
        """The prediction of a planned step."""
        schedule = deal(plan.texts.length_T, self.setup.ranks, self.micro_batch_tokens)
        shapes = shapes_of(schedule, plan.texts.length_T)
        step = StepSize(shapes, schedule.rows_per_rank * self.setup.ranks, self.score_size(plan))
        return predict(self.setup, self.model, step)


def shapes_of(schedule: Schedule, length_T: np.ndarray) -> list[list[Shape]]:
    """The shape of every micro-batch of every rank; one without texts holds a token of padding."""
    return [
        [(max(1, len(rows)), int(padded_length(length_T[rows]).max(initial=1))) for rows in batches]
        for batches in schedule.micro_batches
    ]


def _with_network(device: Device, network: float) -> Device:
    return replace(device, network=network, link=device.link if device.is_gpu else network)
