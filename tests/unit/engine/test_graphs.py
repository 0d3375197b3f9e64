"""Which graphs are kept: how their bytes are measured, how a budget is divided, and what the user is told."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils.checkpoint import checkpoint

from harness.data.batch.deal import deal
from harness.engine import budget, graphs
from harness.engine.budget import free_host_bytes
from harness.engine.graphs import GraphBytes, GraphChoice, GraphMeter, MeasuredGraph, graphs_kept
from harness.engine.step import Step
from harness.types import StepPlan, StepTexts, TokenBatch

PER_TOKEN = GraphBytes(0.0, 100.0, 0.0, widest=512)


def token_batch(rows: int, width: int) -> TokenBatch:
    return TokenBatch(torch.zeros(rows, width, dtype=torch.int64), torch.ones(rows, width, dtype=torch.int64))


def step_of(lengths: list[int], number: int = 1) -> Step:
    zeros = np.zeros(len(lengths), dtype=np.int64)
    plan = StepPlan(number, StepTexts(zeros.astype(np.int32), zeros, np.array(lengths)), ())
    scheduled = deal(plan.texts.length_T, 1, 32)
    batches = [token_batch(len(rows), int(plan.texts.length_T[rows].max())) for rows in scheduled.micro_batches[0]]
    return Step(plan, scheduled, batches, seed=0)


class OneLayer(torch.nn.Module):
    """Saves its input and the input of its GELU: 2 · 8 float32 a token; with checkpointing its input only."""

    gradient_checkpointing = False

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(8, 8)

    def forward(self, batch: TokenBatch) -> torch.Tensor:
        state_BLD = torch.ones(*batch.input_ids_BL.shape, 8)
        if self.gradient_checkpointing:
            return checkpoint(self._layer, state_BLD, use_reentrant=False)
        return self._layer(state_BLD)

    def _layer(self, state_BLD: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.gelu(self.linear(state_BLD)).sum(1)


@pytest.mark.parametrize(("checkpointing", "floats"), [(False, 16), (True, 8)])
def test_a_graph_is_measured_as_the_bytes_that_it_holds(checkpointing: bool, floats: int) -> None:
    """Weights are not counted, a block with several names once; with checkpointing a layer keeps its input only."""
    module, batch = OneLayer(), token_batch(3, 40)
    module.gradient_checkpointing = checkpointing
    meter = GraphMeter(module, [1])
    for index in range(2):  # the first is not to be measured
        with meter.watch(index, batch):
            output = module(batch)
    output_bytes = output.numel() * 4 if checkpointing else 0  # made and alive, though not saved
    assert meter.measured == [MeasuredGraph(120, 40, 120 * floats * 4 + output_bytes)]


def test_the_bytes_of_a_graph_are_those_of_weights_tokens_and_attention_matrices() -> None:
    truth = GraphBytes(5_000.0, 300.0, 2.0, widest=64)
    shapes = [(64, 64), (128, 64), (96, 32), (40, 8), (8, 8)]
    found = GraphBytes.fit([MeasuredGraph(t, w, int(truth.of(t, w))) for t, w in shapes])
    assert found.of(1000, 48) == pytest.approx(truth.of(1000, 48), rel=1e-6)
    assert found.widest == 64


@pytest.mark.parametrize("shapes", [[(64, 64)], [(64, 64), (64, 64)], [(64, 64), (32, 32)], [(64, 16), (32, 16)]])
def test_no_graph_takes_more_than_its_estimate_where_shapes_are_too_alike_to_fit(shapes: list) -> None:
    """Too few shapes to tell weights, tokens and widths apart: shorter texts are not taken for much cheaper ones."""
    found = GraphBytes.fit([MeasuredGraph(tokens, width, 100 * tokens) for tokens, width in shapes])
    assert found.of(1024, 8) >= 100 * 1024 * 0.999


def test_no_graph_that_was_measured_is_underestimated() -> None:
    measured = [MeasuredGraph(64, 64, 9_000), MeasuredGraph(64, 32, 4_000), MeasuredGraph(8, 8, 3_000)]
    measured += [MeasuredGraph(128, 64, 12_000), MeasuredGraph(128, 32, 12_500)]
    found = GraphBytes.fit(measured)
    assert all(found.of(graph.tokens, graph.width) >= graph.num_bytes * 0.999 for graph in measured)


def test_a_larger_budget_keeps_more_graphs_and_none_is_ever_exceeded_on_any_rank() -> None:
    lengths = np.random.default_rng(0).integers(3, 60, size=99)
    scheduled = deal(lengths, 3, 128)
    kept = [graphs_kept(scheduled, lengths, PER_TOKEN, 1000.0 * k) for k in range(400)]
    assert kept == sorted(kept)
    assert (kept[0], kept[-1]) == (0, scheduled.num_micro_batches)
    for k, count in enumerate(kept):
        for batches in scheduled.micro_batches:
            tokens = sum(len(rows) * -(-int(lengths[rows].max()) // 8) * 8 for rows in batches[:count] if len(rows))
            assert tokens * 100.0 <= 1000.0 * k


def choose(setting: int | str, monkeypatch: pytest.MonkeyPatch) -> tuple[GraphChoice, list[str]]:
    """A choice for a model whose graphs take 1 MiB a token, on a machine with 100 MiB left."""
    said: list[str] = []
    monkeypatch.setattr(graphs, "free_bytes", lambda: (100.0 * 2**20, 0.5))
    monkeypatch.setattr(graphs, "changes_bits_without_graph", lambda _: False)
    engine = SimpleNamespace(module=torch.nn.Linear(1, 1))
    return GraphChoice(setting, engine, said.append), said  # type: ignore[arg-type]


def measured(step: Step) -> Step:
    assert isinstance(step.meter, GraphMeter)
    for batch in step.batches:
        tokens, width = batch.num_tokens, batch.input_ids_BL.shape[1]
        step.meter.measured.append(MeasuredGraph(tokens, width, tokens * 2**20))
    return step


def test_the_first_step_measures_and_the_second_keeps_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    choice, said = choose("auto", monkeypatch)
    first = measured(choice.choose(step_of([24, 16, 16])))
    assert (first.graphs_kept, said) == (0, [])
    second = choice.choose(step_of([24, 16, 16]))
    assert (second.graphs_kept, second.meter) == (1, None)  # 24 MiB and 32 MiB are more than half of 100 MiB
    assert said == [
        "activation memory: keeps the graphs of up to 50 MiB a rank (50% of the 100 MiB that a step leaves free) = "
        "about 1 of 2 micro-batches"
    ]
    choice.choose(step_of([24, 16, 16]))
    assert len(said) == 1


def test_all_ranks_choose_by_the_fit_of_rank_0(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its graphs take 4 MiB a token here, those of this rank's own fit 1 MiB."""
    of_main = GraphBytes(0.0, 4.0 * 2**20, 0.0, widest=24)
    monkeypatch.setattr(graphs.comm, "broadcast_object", lambda _: of_main)
    choice, _ = choose(150, monkeypatch)
    measured(choice.choose(step_of([24, 16, 16])))
    assert choice.choose(step_of([24, 16, 16])).graphs_kept == 1


def test_longer_texts_than_any_before_are_measured_before_their_graphs_are_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    choice, _ = choose(1000, monkeypatch)
    measured(choice.choose(step_of([16, 16])))
    assert choice.choose(step_of([16, 16])).graphs_kept == 1
    longer = choice.choose(step_of([32, 16]))
    assert longer.graphs_kept == 0
    measured(longer)
    assert choice.choose(step_of([32, 16])).graphs_kept == 2


def test_a_budget_without_room_for_one_graph_is_said_with_the_size_of_one(monkeypatch: pytest.MonkeyPatch) -> None:
    choice, said = choose(10, monkeypatch)
    measured(choice.choose(step_of([24, 16])))
    assert choice.choose(step_of([24, 16])).graphs_kept == 0
    assert "10 MiB a rank (training.activation_memory) is too little for one graph, which takes 25 MiB" in said[0]


def test_without_activation_memory_no_graph_is_kept_or_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    choice, said = choose(0, monkeypatch)
    for _ in range(2):
        step = choice.choose(step_of([24, 16]))
        assert (step.graphs_kept, step.meter, said) == (0, None, [])


def test_ranks_of_a_host_share_its_memory_and_leave_what_a_step_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Host a: 2 ranks, 900 free, steps of 100 and 200 more than now. Host b: 1 rank, 700 free, a step of 50 more."""
    ranks = [("a", 900.0, 100.0), ("a", 920.0, 200.0), ("b", 700.0, 50.0)]
    monkeypatch.setattr(budget.comm, "gather_objects", lambda _: ranks)
    assert budget.free_bytes() == (300.0, 0.5)


@pytest.mark.parametrize("version", [1, 2])
def test_the_limit_of_a_container_counts_and_cached_files_are_free(tmp_path: Path, version: int) -> None:
    names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
    root = tmp_path if version == 2 else tmp_path / "memory"
    (root / "pod" / "task").mkdir(parents=True)
    for folder, limit in ((root / "pod", "10000"), (root / "pod" / "task", "max" if version == 2 else str(2**60))):
        for name, value in zip(names, (limit, "7000"), strict=True):
            (folder / name).write_text(value + "\n")
        (folder / "memory.stat").write_text("anon 4000\ninactive_file 1000\ntotal_inactive_file 1000\n")
    own = tmp_path / "own"
    own.write_text("0::/pod/task\n" if version == 2 else "5:cpu,memory:/pod/task\n4:pids:/other\n")
    assert free_host_bytes(tmp_path, own) == 10_000 - 7_000 + 1_000
    own.write_text("0::/\n")
    assert free_host_bytes(tmp_path, own) > 2**24
