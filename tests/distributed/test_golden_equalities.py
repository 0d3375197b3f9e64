"""A step's gradients equal plain autograd for any number of ranks, ZeRO stage, budget, precision and deal of the texts.

`python -m tests.golden` prints the errors of the same cases.
"""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

import numpy as np
import pytest
import torch

from harness import comm
from harness.data.table.tokenisation import Tokeniser
from harness.encoder.config import ModelConfig
from harness.encoder.load import load_encoder
from harness.engine import phases
from harness.engine.config import TrainingConfig
from harness.engine.zero import ZeroEngine
from harness.prompts import NO_PROMPTS
from harness.search import encode as encode_module
from harness.search.encode import TextEncoder
from tests import golden
from tests.golden_cases import LARGE_BUDGET, SMALL_BUDGET, Case, Kept
from tests.ranks import run_ranks
from tests.tiny import make_model, text

pytestmark = pytest.mark.distributed


@pytest.mark.timeout(golden.TIMEOUT)
@pytest.mark.parametrize("world", [1, 2, 3])
def test_gradients_equal_plain_autograd_for_every_stage_budget_precision_and_deal(world):
    bad = {str(case): error for case, error in golden.measure(world).items() if not error < golden.limit(case)}
    assert not bad


def test_dropout_is_really_on_where_the_matrix_says_so():
    """The dropout cases test something: the masks change the gradient by far more than the bound of these cases."""
    case = Case(2, 1, dropout=0.2)
    without = golden.plain_gradients(replace(case, dropout=0.0))
    assert golden.relative_error(golden.plain_gradients(case), without) > 0.1


def test_the_soft_mask_is_really_half_open_where_the_matrix_says_so():
    """The cells of the soft mask are neither those of causal nor those of bidirectional attention."""
    case = Case(1, 1, backbone="qwen3", soft_mask=True)
    half_open, causal = golden.plain_gradients(case), golden.plain_gradients(replace(case, soft_mask=False))
    assert golden.relative_error(half_open, causal) > 0.1
    encoder = golden.tiny_encoder(backbone="qwen3", soft_mask=True)
    assert encoder.soft_mask is not None
    assert encoder.soft_mask.is_used
    assert 0 < encoder.soft_mask.weight < 1


def test_the_matrix_has_ranks_with_different_numbers_of_micro_batches():
    """The shuffled deal gives one rank no text, and the other ranks different numbers of micro-batches."""
    _, _, scheduled = golden.tiny_schedule(Case(3, 2, SMALL_BUDGET, shuffled=True))
    own = [sum(len(rows) > 0 for rows in batches) for batches in scheduled.micro_batches]
    assert min(own) == 0
    assert 0 < sorted(own)[1] < max(own)


def test_the_uneven_mixture_has_ranks_without_a_query_or_a_pair_and_tasks_with_one_example():
    """With 3 ranks. A rank computes no loss for a task of which it has no example."""
    _, plan, _ = golden.tiny_schedule(Case(3, 2, mixture="uneven"))
    table = torch.randn(31, 24, generator=torch.Generator().manual_seed(0))
    shares = [golden.tiny_objective("chunked", "uneven")(plan, table, (rank, 3)).metrics for rank in range(3)]
    parts = {part.task: part for part in plan.parts}
    for task, has_query in (("faq", [False, True, True]), ("single", [False, False, True])):
        queries = [parts[task].query_B[parts[task].share(rank, 3)] for rank in range(3)]
        assert [len(query_Q) > 0 for query_Q in queries] == has_query
    assert [float(share["loss/single"]) > 0 for share in shares] == [False, False, True]
    assert [float(share["loss/similar"]) > 0 for share in shares] == [False, True, False]
    assert len(parts["single"].query_B) == len(parts["lone"].score_S) == 1


def errors_without(broken: str, case: Case) -> float:
    """Runs on a rank: break one mechanism that the equality depends on, and return the error of the gradient."""
    if broken == "dropout replay":
        calls = iter(range(10**9))
        phases.derive_key = lambda *_: next(calls)  # type: ignore[assignment]
    elif broken == "accumulation boundary":
        set_boundary = golden.ZeroEngine.set_boundary
        golden.ZeroEngine.set_boundary = lambda self, is_last: set_boundary(self, True)  # type: ignore
    elif broken == "end of a backward":
        golden.ZeroEngine._end_last_backward = lambda _: None  # type: ignore
    elif broken == "sum over ranks":  # DeepSpeed averages over ranks; without our factor the gradient is halved
        accumulate = golden.ZeroEngine.accumulate
        golden.ZeroEngine.accumulate = lambda self, e, g: accumulate(self, e, g / 2)  # type: ignore
    truth = golden.plain_gradients(replace(case, stage=0))
    return golden.relative_error(golden.engine_gradients(case), truth)


@pytest.mark.parametrize(
    ("broken", "case"),
    [
        ("dropout replay", Case(1, 1, dropout=0.2)),
        ("accumulation boundary", Case(1, 1)),
        ("accumulation boundary", Case(1, 2)),
        ("end of a backward", Case(1, 3, kept="all")),
        ("sum over ranks", Case(2, 1)),
    ],
    ids=str,
)
def test_the_equality_fails_when_its_reason_is_taken_away(broken, case):
    """Without replayed masks, or with naive accumulation, the errors are large: the tests above can fail."""
    assert run_ranks(case.world, errors_without, broken, case)[0] > 0.05


@pytest.mark.timeout(golden.TIMEOUT)
def test_the_weights_are_the_same_bits_however_many_graphs_are_kept():
    """So free memory may decide how many, and a run that is continued elsewhere ends as it would have.

    ZeRO-3 has released all weights after the backwards. T5's forward is another one without a graph, which in bf16
    shows in the bits of few texts only.
    """
    precisions = ((0, "fp16"), (1, "bf16_weights"), (2, "bf16"), (3, "bf16"), (3, "fp32"))
    models = [Case(2, stage, dropout=0.2, precision=precision) for stage, precision in precisions]
    models.append(Case(2, 1, dropout=0.2, compiled=True))
    models += [Case(2, stage, backbone="t5", precision=precision) for stage, precision in ((1, "fp32"), (3, "bf16"))]
    weights = run_ranks(2, weights_for_every_choice, models, timeout=golden.TIMEOUT)[0]
    assert [len(of_model) for of_model in weights] == [1] * len(models)
    assert len(set.union(*weights)) >= 3  # the hash sees that stages round differently, and that T5 is not BERT


def weights_for_every_choice(models: list[Case]) -> list[set[str]]:
    return [{golden.weights_after_steps(replace(case, kept=kept)) for kept in get_args(Kept)} for case in models]


def test_a_kept_graph_saves_a_forward():
    forwards = run_ranks(1, count_forwards)[0]
    count = golden.tiny_schedule(Case(1, 1))[2].num_micro_batches
    assert count > 2
    forwards = {kept: made - 2 for kept, made in forwards.items()}  # two find out whether a graph changes the bits
    assert forwards == {"all": count, "half": 2 * count - -(-count // 2), "none": 2 * count}


def count_forwards() -> dict[str, int]:
    counts = {}
    for kept in get_args(Kept):
        count = [0]
        original = golden.ZeroEngine.forward

        def counting(self, batch, original=original, count=count):
            count[0] += 1
            return original(self, batch)

        golden.ZeroEngine.forward = counting  # type: ignore[method-assign]
        golden.engine_gradients(Case(1, 1, kept=kept))
        golden.ZeroEngine.forward = original  # type: ignore[method-assign]
        counts[kept] = count[0]
    return counts


def peak_graph_memory(budget: int) -> int:
    """Peak bytes of saved activations, counted with autograd's saved-tensor hooks."""
    alive, peak = [0], [0]

    class Saved:
        def __init__(self, tensor: torch.Tensor) -> None:
            self.tensor, self.size = tensor, tensor.numel() * tensor.element_size()
            alive[0] += self.size
            peak[0] = max(peak[0], alive[0])

        def __del__(self) -> None:
            alive[0] -= self.size

    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
        golden.engine_gradients(Case(1, 1, budget))
    return peak[0]


def test_activation_memory_is_that_of_one_micro_batch():
    """The purpose of the gradient cache: memory depends on the micro-batch budget, not on the number of texts."""
    small, large = run_ranks(1, both_peaks)[0]
    assert small < 0.35 * large


def both_peaks() -> tuple[int, int]:
    return peak_graph_memory(SMALL_BUDGET), peak_graph_memory(LARGE_BUDGET)


def test_texts_are_encoded_alike_whatever_the_number_of_ranks_and_the_size_of_a_block(tmp_path):
    """The ranks share an evaluation's texts; embeddings and order must equal those of one process and one block."""
    folder = str(make_model(tmp_path))
    one, _ = run_ranks(1, encode_some, folder, 65_536)[0]
    for world in (1, 3):
        for found, largest in run_ranks(world, encode_some, folder, 7):  # in the last block a rank has no text
            np.testing.assert_allclose(found, one, atol=1e-5)
            assert largest <= 7


def encode_some(folder: str, block_texts: int) -> tuple[np.ndarray, int]:
    """Runs on a rank: return the embeddings, and the largest number of rows in one gather."""
    encoder = load_encoder(ModelConfig(name_or_path=folder, max_length=24))
    engine = ZeroEngine(encoder, TrainingConfig(steps=1), {"zero_optimization": {"stage": 3}})
    engine.train_mode(False)
    encode_module.BLOCK_TEXTS = block_texts
    sizes = []
    gather = comm.all_gather_rows
    encode_module.comm.all_gather_rows = lambda rows: sizes.append(len(rows)) or gather(rows)  # type: ignore
    encode = TextEncoder(
        engine.forward,
        Tokeniser(folder),
        max_lengths={"query": 8, "document": 24},
        prompts=NO_PROMPTS,
        micro_batch_tokens=64,
    )
    return encode([text(i, 1 + i % 17) for i in range(23)], "document"), max(sizes)
