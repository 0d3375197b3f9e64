"""From a step to memory, traffic and seconds: what is not known stays unknown, and what does not fit names its knob."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from fused_contrastive import DocumentShard, info_nce

from harness.engine.config import TrainingConfig
from harness.losses.config import LossConfig
from harness.losses.interface import TaskLossSettings
from harness.losses.objective import Objective
from harness.losses.table import gather_bytes
from harness.prediction.advice import advice
from harness.prediction.counted.live_bytes import LiveBytes
from harness.prediction.counted.micro_batch import UnloadedModel
from harness.prediction.machine.devices import DEVICES, Device, device_of_cuda_name, named_device
from harness.prediction.machine.this_machine import optimizer_temporaries, this_device
from harness.prediction.precision import NUMBERS
from harness.prediction.predict import Prediction, Setup, StepSize, predict
from harness.prediction.score import ScoreSize
from harness.prediction.zero_settings import ZeroSettings
from harness.types import QueryPart, RaggedLists, StepPlan, StepTexts, TeacherRows
from tests.unit.prediction.models import make, settings

SCORE = ScoreSize(rows=40, part_rows=((20, 20),), dim=64)
SHAPES = [[(4, 32), (4, 16)]]


def retrieval_step(queries: int, documents: int, rows: int) -> StepPlan:
    random = np.random.default_rng(0)
    part = QueryPart(
        task="faq",
        row_B=np.arange(queries),
        query_B=np.arange(queries),
        document_N=random.permutation(rows)[:documents],
        positive_BP=random.integers(0, documents, (queries, 1)),
        negative_BM=np.empty((queries, 0), dtype=np.int64),
        rank_BM=np.empty((queries, 0), dtype=np.int64),
        excluded_BX=RaggedLists.of_pairs(np.arange(queries), np.zeros(queries, np.int64), queries),
        own_negatives_only=False,
    )
    return StepPlan(1, StepTexts(np.zeros(rows, np.int32), np.arange(rows), np.full(rows, 8)), (part,))


def ring_objective(gather: str) -> Objective:
    return Objective((TaskLossSettings("faq"),), LossConfig(gather=gather), None, None)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> UnloadedModel:
    folder = make("bert", tmp_path_factory.mktemp("bert"))
    return UnloadedModel(settings(folder), None, NUMBERS["fp32"], on_gpu=True)


def prediction(
    model: UnloadedModel, stage: int = 1, ranks: int = 4, device: Device = DEVICES["L4"], **training: object
) -> Prediction:
    config = TrainingConfig(steps=3, **training)
    setup = Setup(config, ZeroSettings.of({"zero_optimization": {"stage": stage}}), device, ranks, 1 << 30, 8.0, 0.4)
    return predict(setup, model, StepSize(SHAPES, 40, SCORE))


def test_seconds_are_unknown_without_a_rate_and_nothing_is_sent_by_one_rank(model: UnloadedModel) -> None:
    unknown = replace(DEVICES["L4"], link=None, rates={"fp32": None})
    times = prediction(model, device=unknown).seconds
    assert (times.compute, times.communication, times.total) == (None, None, None)
    alone = prediction(model, ranks=1)
    assert alone.seconds.communication == 0
    assert sum(alone.sent.values()) == 0
    assert alone.seconds.total == pytest.approx(alone.seconds.compute + alone.seconds.optimizer)


def test_seconds_are_operations_by_rate_and_bytes_by_bandwidth(model: UnloadedModel) -> None:
    found = prediction(model, activation_memory=0)
    forwards = model.forward_flops((4, 32)) + model.forward_flops((4, 16))
    flops = 4 * forwards + SCORE.flops // 4  # embed, replay, and a backward of two; scores are shared by the ranks
    assert found.flops == flops
    assert found.seconds.compute == pytest.approx(flops / (DEVICES["L4"].rates["fp32"] * 0.4))
    assert found.seconds.communication == pytest.approx(sum(found.sent.values()) / DEVICES["L4"].link)


def test_beyond_a_host_the_network_counts_and_may_be_unknown(model: UnloadedModel) -> None:
    assert prediction(model, ranks=16).seconds.communication is None
    fast = prediction(model, ranks=16, device=DEVICES["H100-SXM"])
    assert fast.seconds.communication == pytest.approx(sum(fast.sent.values()) / DEVICES["H100-SXM"].network)


def test_kept_graphs_are_held_from_phase_to_phase_and_save_a_forward_each(model: UnloadedModel) -> None:
    step = StepSize([[(4, 32), (4, 16), (2, 32)]], 40, SCORE)
    graphs = [model.cost(*shape).graph for shape in step.shapes[0]]
    setup = prediction(model).setup

    def with_memory(mebibytes: int | str) -> Prediction:
        training = setup.training.model_copy(update={"activation_memory": mebibytes})
        return predict(replace(setup, training=training), model, step)

    replayed, all_kept = with_memory(0), with_memory("auto")  # a GPU of 22 GiB has room for all
    some = with_memory(-(-int((graphs[0] + graphs[1]) * 1.1) >> 20))
    assert [p.graphs_kept for p in (replayed, some, all_kept)] == [0, 2, 3]
    assert replayed.moments["score"]["activations"] == 0
    assert some.moments["score"]["activations"] == pytest.approx(sum(graphs[:2]), rel=0.03)
    assert all_kept.moments["score"]["activations"] == pytest.approx(sum(graphs), rel=0.03)
    assert replayed.flops - some.flops == sum(map(model.forward_flops, step.shapes[0][:2]))
    assert replayed.sent == all_kept.sent


def test_auto_keeps_only_the_graphs_that_the_rest_of_the_step_leaves_room_for(model: UnloadedModel) -> None:
    step = StepSize([[(64, 32)] * 40], 40, SCORE)
    setup = prediction(model, activation_memory=0).setup
    needed = predict(setup, model, step).peak_bytes
    graph = model.cost(64, 32).graph
    memory = int((needed + 10 * graph / 0.75 * 1.05) / 0.95) + (1 << 20)  # 5 % margin of the device, 75 % of the rest
    auto = replace(setup, device=replace(setup.device, memory_bytes=memory), training=TrainingConfig(steps=3))
    found = predict(auto, model, step)
    assert 9 <= found.graphs_kept <= 10
    assert needed < found.peak_bytes <= found.free_bytes
    full = replace(auto, device=replace(setup.device, memory_bytes=needed))
    assert predict(full, model, step).graphs_kept == 0


def test_a_ring_holds_a_part_of_the_embeddings_and_sends_documents_on(model: UnloadedModel) -> None:
    plan, objective = retrieval_step(200, 1500, 2000), ring_objective("ring")
    size, ranks, row = ScoreSize.of(plan, 64, objective), 4, 64 * 4
    assert (size.gathered, size.passed, size.gather(ranks), size.gather(1)) == (0, 1500, "ring", "table")
    table = ScoreSize.of(plan, 64, ring_objective("table"))
    assert size.table_bytes(ranks) * ranks == table.table_bytes(ranks) == 2 * 2000 * row
    workspace = 50 * 1500 * 12
    held = size.table_bytes(ranks) + size.loss_bytes(ranks, on_gpu=False)
    assert held == gather_bytes("ring", 2000, 0, 64, ranks) + workspace
    assert size.sent(ranks, 2000) == {"embeddings": 3 * 1500 * row * 3 // 4, "embedding gradients": 1500 * row}
    assert ScoreSize.of(plan, 64, ring_objective("auto")).gather(ranks) == "table"
    assert ScoreSize.of(plan, 64, ring_objective("auto")).scaled(2_000_000).gather(ranks) == "ring"


def test_what_does_not_fit_names_the_knob_that_shrinks_it(model: UnloadedModel) -> None:
    assert advice(prediction(model), 128) == []
    small = replace(DEVICES["L4"], memory_bytes=1 << 30)
    lines = advice(prediction(model, device=small, stage=3), 128)
    assert lines[0].startswith("memory: ")
    assert "GiB that L4 has for it, at the moment `" in lines[0]
    assert any("reduce_bucket_size" in line for line in lines)  # DeepSpeed's default is 500 million elements
    huge = UnloadedModel(settings(Path(model.encoder.backbone.config.name_or_path)), 0.0, NUMBERS["fp32"], on_gpu=True)
    setup = prediction(model, device=replace(small, memory_bytes=3 << 30)).setup
    bucketless = replace(setup, zero=ZeroSettings.of({"zero_optimization": {"stage": 1, "reduce_bucket_size": 1000}}))
    step = StepSize([[(20_000, 32)] * 2], 40_000, SCORE)
    lines = advice(predict(bucketless, huge, step), 640_000)
    assert any(line.startswith("activations: ") and "micro_batch_tokens (now 640,000)" in line for line in lines)


def test_more_ranks_hold_less_of_what_a_stage_shards(model: UnloadedModel) -> None:
    def held(stage: int, ranks: int) -> dict[str, int]:
        return dict(prediction(model, stage, ranks).moments["replay"])

    for stage, sharded in ((0, ()), (1, ("optimizer state",)), (2, ("optimizer state", "gradients"))):
        for name in ("weights", "optimizer state", "gradients"):
            ratio = held(stage, 8)[name] / held(stage, 2)[name]
            assert ratio == pytest.approx(0.25 if name in sharded else 1.0, rel=0.01), (stage, name)
    assert prediction(model, 1, 4).host_bytes == 0


def test_offloaded_states_lie_on_the_host_of_a_gpu(model: UnloadedModel) -> None:
    setup = prediction(model, 2).setup
    offload = {"device": "cpu"}
    zero = ZeroSettings.of({"zero_optimization": {"stage": 2, "offload_optimizer": offload}})
    found = predict(replace(setup, zero=zero), model, StepSize(SHAPES, 40, SCORE))
    assert found.moments["replay"]["optimizer state"] == 0
    assert found.host_bytes >= prediction(model, 2).moments["replay"]["optimizer state"]


def test_an_unknown_gpu_is_refused_in_one_line_that_lists_the_known_ones() -> None:
    for name in ("h100", "H100 SXM", "rtx 4090", "a100_80"):
        assert named_device(name).is_gpu
    with pytest.raises(ValueError, match=r"--gpu: got A1000, expected one of V100-16, .*B200.*; did you mean") as error:
        named_device("A1000")
    assert "\n" not in str(error.value)


def test_this_machines_gpu_is_a_row_of_the_table_only_if_it_is_that_very_card() -> None:
    rows = {"NVIDIA A100-SXM4-80GB": "A100-80", "NVIDIA H100 PCIe": "H100-PCIe", "NVIDIA H100 80GB HBM3": "H100-SXM"}
    rows |= {"NVIDIA L40S": "L40S", "Tesla T4": "T4", "NVIDIA GeForce RTX 4090": "RTX4090"}
    for name, row in rows.items():
        assert device_of_cuda_name(name) is DEVICES[row]
    others = ("A10G", "A100-PCIE-40GB", "H100 NVL", "GeForce RTX 3090 Ti", "GeForce RTX 4090 Laptop GPU")
    assert [device_of_cuda_name(f"NVIDIA {name}") for name in (*others, "Some Card")] == [None] * 6


def test_the_table_of_devices_is_in_its_own_units() -> None:
    for device in DEVICES.values():
        assert 8e12 <= device.rates["fp32"] <= 1e14
        assert device.rates["fp16"] >= 1.8 * device.rates["fp32"]
        assert 2e11 < device.memory_bandwidth < 1e13
        assert device.network is None or device.network < device.link


def test_this_machines_rates_are_measured_and_its_network_is_unknown() -> None:
    device = this_device(2)
    assert 1e8 < device.rates["fp32"] < 1e14
    assert device.rates["fp16"] is None
    assert (device.link, device.network) == (None, None)
    assert device.memory_bytes * 2 < this_device(1).memory_bytes * 1.5


def test_the_optimizers_temporaries_are_counted_and_not_its_state() -> None:
    assert 0 <= optimizer_temporaries(TrainingConfig(steps=1)) <= 12


class SecondRank:
    """Stands for the other rank of a ring of two: has as many documents, and counts what it is sent."""

    rank, count = 0, 2

    def __init__(self) -> None:
        self.received_bytes: list[int] = []

    def sum(self, tensor: torch.Tensor) -> torch.Tensor:
        if tensor.shape == (2, 2):  # first document and number of documents of each rank
            tensor = torch.stack([tensor[:, 0], torch.stack([tensor[1, 0], tensor[1, 0]])], dim=1)
        return tensor

    def max(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor

    def pass_on(self, tensor: torch.Tensor, num_rows: int) -> SimpleNamespace:
        self.received_bytes.append(tensor.nbytes)
        return SimpleNamespace(wait=lambda: torch.ones((num_rows, *tensor.shape[1:])))


def test_what_a_ring_sends_is_what_the_kernel_passes_on() -> None:
    documents, dim, peers = 24, 16, SecondRank()
    query_BD, document_ND = (torch.randn(rows, dim, requires_grad=True) for rows in (8, documents))
    shard, positive_B = DocumentShard(0, 2 * documents), torch.arange(8)
    info_nce(query_BD, document_ND, positive_B, temperature=1, denominator=16, peers=peers, shard=shard).loss.backward()
    size = ScoreSize(rows=64, part_rows=((16, 48),), dim=dim, setting="ring", gathered=0, passed=2 * documents)
    assert sum(peers.received_bytes) == sum(size.sent(2, 64).values())


def test_the_score_phase_holds_what_a_real_one_holds() -> None:
    rows, dim = 2000, 64
    plan, objective = retrieval_step(200, 1500, rows), ring_objective("table")
    size = ScoreSize.of(plan, dim, objective)
    table_TD = torch.randn(rows, dim, requires_grad=True)
    objective.backward(plan, table_TD)  # imports, and the first use of each kernel
    table_TD.grad = None
    with LiveBytes() as live:
        objective.backward(plan, table_TD)
    held = size.table_bytes(1) + size.loss_bytes(1, on_gpu=False)
    assert 0.85 < held / (live.peak + table_TD.nbytes) < 1.3


@pytest.mark.parametrize("loss", ["spread_out", "teacher_similarity"])
def test_a_loss_of_all_pairs_of_texts_holds_what_was_predicted(loss: str) -> None:
    """Queries and positives are as many, so that `spread_out` compares half of what `teacher_similarity` does."""
    rows, dim, levels = 3000, 64, (16, 64)
    plan = retrieval_step(1500, 1500, rows)
    part = plan.parts[0]
    assert isinstance(part, QueryPart)
    vector_BV = np.random.default_rng(1).normal(size=(1500, 48)).astype(np.float32)
    part = replace(part, positive_BP=np.arange(1500)[:, None], teacher=TeacherRows(vector_BV, vector_BV[:, None], None))
    plan = replace(plan, parts=(part,))
    objective = Objective((TaskLossSettings("faq", losses=(loss,)),), LossConfig(), levels, (1.0, 1.0))
    table_TD = torch.randn(rows, dim, requires_grad=True)
    objective.backward(plan, table_TD)
    table_TD.grad = None
    with LiveBytes() as live:
        objective.backward(plan, table_TD)
    size = ScoreSize.of(plan, dim, objective)
    held = size.table_bytes(1) + size.loss_bytes(1, on_gpu=False)
    assert 0.85 < held / (live.peak + table_TD.nbytes) < 1.3
