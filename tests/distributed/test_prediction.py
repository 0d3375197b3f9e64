"""The predicted weights, gradients, optimizer state, buffers and traffic are those of DeepSpeed's engines."""

from __future__ import annotations

import gc
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.engine.config import TrainingConfig
from harness.prediction.machine.this_machine import optimizer_temporaries
from harness.prediction.precision import NUMBERS
from harness.prediction.states import ModelSize, states
from harness.prediction.traffic import traffic
from harness.prediction.zero_settings import ZeroSettings
from harness.settings.deepspeed_json import load_deepspeed_json
from tests.ranks import run_ranks

RANKS, MICRO_BATCHES = 2, 3
BUCKET = 20_000  # elements: several buckets, and a parameter that is larger than one
COLLECTIVES = {
    "all_reduce": "all_reduced", "reduce": "reduced", "all_gather_into_tensor": "gathered",
    "reduce_scatter_tensor": "reduced",
}  # fmt: skip


def make_module(*, frozen: bool = False) -> Any:
    from transformers import BertConfig, BertModel

    from harness.encoder.encoder import Encoder
    from harness.encoder.partial.config import FreezeSettings
    from harness.encoder.partial.depth import freeze

    torch.manual_seed(0)
    sizes = {"vocab_size": 1200, "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}
    no_dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    config = BertConfig(**sizes, **no_dropout, intermediate_size=256, max_position_embeddings=32)
    encoder = Encoder(BertModel(config, add_pooling_layer=False), ("mean",))
    if frozen:
        freeze(encoder, FreezeSettings(embeddings=True, layers=2))
    return encoder


def temporaries() -> float:
    return optimizer_temporaries(TrainingConfig(steps=3))


def zero_json(stage: int, **changes: Any) -> dict[str, Any]:
    tree = load_deepspeed_json(f"zero{stage}", Path())
    sizes = {"reduce_bucket_size": BUCKET, "stage3_param_persistence_threshold": 1000, **changes}
    tree["zero_optimization"].update({key: value for key, value in sizes.items() if stage == 3 or "stage3" not in key})
    return tree


def hold_and_send(stages: tuple[int, ...], frozen: bool = False) -> dict[int, dict[str, Any]]:
    """On each rank: bytes at the moments of a second step (weights from outside left out), and tensors sent in it."""
    import torch.distributed as dist

    sent = Counter[str]()

    def counted(name: str, function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            tensors = [x for x in (*args, *kwargs.values()) if isinstance(x, torch.Tensor)]
            sent[COLLECTIVES[name]] += max(tensor.nbytes for tensor in tensors)
            return function(*args, **kwargs)

        return call

    for name in COLLECTIVES:  # once, because DeepSpeed looks some of them up once
        setattr(dist, name, counted(name, getattr(dist, name)))
    return {stage: _second_step(stage, sent, frozen=frozen) for stage in stages}


def _second_step(stage: int, sent: Counter[str], *, frozen: bool) -> dict[str, Any]:
    from harness.engine.zero import ZeroEngine
    from harness.prediction.counted.live_bytes import LiveBytes
    from harness.types import TokenBatch

    module, steps = make_module(frozen=frozen), []
    batch = TokenBatch(torch.ones(2, 8, dtype=torch.int64), torch.ones(2, 8, dtype=torch.int64))
    with LiveBytes([*module.parameters(), *module.buffers()]) as live:
        engine = ZeroEngine(module, TrainingConfig(steps=9), zero_json(stage))
        engine.train_mode(True)
        for step in range(1, 6):
            sent.clear()
            steps.append(bytes_of_a_step(engine, batch, step, live))
    # gloo's threads may hold the tensor of a transfer for a moment after it has ended, which only adds to what is held.
    least = {name: min(found[name] for found in steps[1:]) for name in steps[0]}
    return {**least, "sent": dict(sent)}


def bytes_of_a_step(engine: Any, batch: Any, step: int, live: Any) -> dict[str, int]:
    """Bytes that are held after each part of a step, and the most that are held within it."""
    found = {}
    gc.collect()  # when Python would do it by itself differs from run to run
    live.reset()
    with torch.no_grad():
        for _ in range(MICRO_BATCHES):
            engine.forward(batch)
    found["embed"], found["embed peak"] = live.now, live.peak
    for index in range(MICRO_BATCHES):
        engine.set_boundary(index == MICRO_BATCHES - 1)
        live.reset()
        embedding_BD = engine.forward(batch)
        engine.accumulate(embedding_BD, torch.ones_like(embedding_BD))
        del embedding_BD
        found[f"replay {index}"], found[f"replay {index} peak"] = live.now, live.peak
    live.reset()
    engine.update_weights(step)
    found["update"], found["update peak"] = live.now, live.peak
    return found


@pytest.fixture(scope="module")
def real() -> dict[int, dict[str, Any]]:
    return run_ranks(RANKS, hold_and_send, (0, 1, 2, 3))[0]


@pytest.mark.distributed
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_what_stays_from_step_to_step_is_predicted(real: dict[int, dict[str, Any]], stage: int) -> None:
    module, zero = make_module(), ZeroSettings.of(zero_json(stage))
    size = ModelSize.of(module, zero.persistence_threshold)
    held = states(size, zero, NUMBERS["fp32"], RANKS, temporaries(), on_gpu=True)
    given = held.weights if stage == 0 else 0  # stage 0 trains the tensors that it was given
    buffers = held.buffers if stage == 3 else 0  # others allocate them for the replay phase only
    expected = held.weights - given + held.optimizer + held.kept_gradients + buffers
    assert real[stage]["embed"] == pytest.approx(expected, rel=0.02)


@pytest.mark.distributed
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_what_replay_and_update_add_is_predicted(real: dict[int, dict[str, Any]], stage: int) -> None:
    found, zero = real[stage], ZeroSettings.of(zero_json(stage))
    size = ModelSize.of(make_module(), zero.persistence_threshold)
    held = states(size, zero, NUMBERS["fp32"], RANKS, temporaries(), on_gpu=True)
    weights = size.total * 4
    between = found["replay 1"] - found["embed"] - (held.buffers if stage == 1 else 0)
    assert between == pytest.approx(held.summed_gradients, abs=0.02 * weights)
    assert found["update peak"] - found["embed"] == pytest.approx(held.update, rel=0.05, abs=0.02 * weights)
    if stage == 3:
        assert found["embed peak"] - found["embed"] == pytest.approx(held.gathered, rel=0.25)


@pytest.mark.distributed
def test_frozen_weights_are_held_and_gathered_but_have_no_gradient_and_no_optimizer_state() -> None:
    """Stage 1 holds them whole and sends none; stage 3 divides them and gathers them for every pass."""
    found = run_ranks(RANKS, hold_and_send, (1, 3), True)[0]
    for stage in (1, 3):
        zero = ZeroSettings.of(zero_json(stage))
        size = ModelSize.of(make_module(frozen=True), zero.persistence_threshold)
        held = states(size, zero, NUMBERS["fp32"], RANKS, temporaries(), on_gpu=True)
        given = size.frozen * 4 if stage == 1 else 0  # stage 1 leaves them where they were
        expected = held.weights - given + held.optimizer + held.kept_gradients + (held.buffers if stage == 3 else 0)
        assert found[stage]["embed"] == pytest.approx(expected, rel=0.02), stage
        between = found[stage]["replay 1"] - found[stage]["embed"] - (held.buffers if stage == 1 else 0)
        assert between == pytest.approx(held.summed_gradients, abs=0.02 * size.total * 4), stage
        expected_sent = traffic(size, zero, NUMBERS["fp32"], MICRO_BATCHES, 2 * MICRO_BATCHES)
        for kind in ("all_reduced", "reduced", "gathered"):
            sent = found[stage]["sent"].get(kind, 0)
            assert sent == pytest.approx(getattr(expected_sent, kind), rel=0.02, abs=1000), (stage, kind)


@pytest.mark.distributed
@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_the_tensors_that_are_sent_are_predicted(real: dict[int, dict[str, Any]], stage: int) -> None:
    zero = ZeroSettings.of(zero_json(stage))
    size = ModelSize.of(make_module(), zero.persistence_threshold)
    expected = traffic(size, zero, NUMBERS["fp32"], MICRO_BATCHES, 2 * MICRO_BATCHES)
    sent = real[stage]["sent"]
    for kind in ("all_reduced", "reduced", "gathered"):
        # Flags and norms are sent, too, and parts are rounded up.
        assert sent.get(kind, 0) == pytest.approx(getattr(expected, kind), rel=0.02, abs=1000), kind
