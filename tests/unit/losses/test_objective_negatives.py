"""The options symmetric, same tower and hardness of `negatives`: the step's loss equals loops over the formula."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness import comm
from harness.losses.config import LossConfig
from harness.losses.interface import TaskLossSettings
from harness.losses.objective import Objective
from harness.types import QueryPart, RaggedLists, StepPlan, StepTexts
from tests.ranks import run_ranks

NUM_TEXTS, WIDTH, DIMS = 30, 8, (3, 8)
OPTIONS = [
    (scope, {"symmetric": symmetric, "document_tower": tower, "hardness": hardness})
    for scope, symmetric, tower, hardness in product(("task", "own"), (False, True), (False, True), (None, 2.0))
    if not (scope == "own" and tower)  # the recipe refuses this combination
]


def table() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(NUM_TEXTS, WIDTH, generator=generator, dtype=torch.float64).requires_grad_()


def step(scope: str, num_queries: int) -> StepPlan:
    random = np.random.default_rng(1)
    part = QueryPart(
        task="faq",
        row_B=np.arange(num_queries),
        query_B=np.arange(num_queries),
        document_N=random.permutation(NUM_TEXTS)[:12],
        positive_BP=random.integers(0, 12, (num_queries, 1)),
        negative_BM=random.integers(-1, 12, (num_queries, 3)),
        rank_BM=np.zeros((num_queries, 3), np.int64),
        excluded_BX=RaggedLists.of_padded(random.integers(-1, 12, (num_queries, 2))),
        own_negatives_only=scope == "own",
    )
    number = np.arange(NUM_TEXTS)
    return StepPlan(1, StepTexts(np.zeros(NUM_TEXTS, np.int32), number, np.ones(NUM_TEXTS, np.int64)), (part,))


def objective(terms: TaskLossSettings) -> Objective:
    return Objective([terms], LossConfig(implementation="chunked"), DIMS, (0.5, 1.0))


def loss_by_loops(part: QueryPart, rows: Tensor, terms: TaskLossSettings) -> Tensor:
    """The loss by loops, as a mean over queries. kept[i]: the negatives of query i after all masks."""
    kept = []
    for i, positive in enumerate(part.positive_BP[:, 0]):
        candidates = set(part.negative_BM[i].tolist()) if part.own_negatives_only else set(range(12))
        kept.append(sorted(candidates - {-1, int(positive)} - set(part.excluded_BX[i].tolist())))
    total = rows.new_zeros(())
    for dim, level_weight in zip(DIMS, (0.5, 1.0), strict=True):
        unit = F.normalize(rows[:, :dim], dim=1)
        query, document = unit[part.query_B], unit[part.document_N]
        for i, p in enumerate(part.positive_BP[:, 0]):
            term = (query[i] @ document[p] / 0.1).exp()
            row = rows.new_zeros(())
            for j in kept[i]:
                own = terms.hardness is not None and j in part.negative_BM[i]
                weight = (terms.hardness * (query[i] @ document[j]).detach()).exp() if own else 1.0
                row = row + weight * (query[i] @ document[j] / 0.1).exp()
                if terms.document_tower:
                    row = row + (document[p] @ document[j] / 0.1).exp()
            loss = ((term + row) / term).log()
            if terms.symmetric:
                others = [o for o in range(len(query)) if p in kept[o]]
                column = sum((query[o] @ document[p] / 0.1).exp() for o in others)
                loss = (loss + ((term + column) / term).log()) / 2
            total = total + level_weight * loss / len(query)
    return total


@pytest.mark.parametrize(("scope", "options"), OPTIONS, ids=str)
def test_the_loss_with_each_option_is_its_formula(scope: str, options: dict) -> None:
    terms, rows, step_plan = TaskLossSettings("faq", 0.1, **options), table(), step(scope, 7)
    part = step_plan.parts[0]
    assert isinstance(part, QueryPart)
    loss, expected = objective(terms)(step_plan, rows).loss, loss_by_loops(part, rows, terms)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    gradient, expected_gradient = (torch.autograd.grad(value, rows)[0] for value in (loss, expected))
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-10, atol=1e-13)
    plain = objective(TaskLossSettings("faq", 0.1))(step_plan, rows).loss
    assert (abs(loss - plain) > 1e-3) == any(options.values())  # every option changes the loss


@pytest.mark.parametrize("scope", ["task", "own"])
@pytest.mark.parametrize("margin", [None, 0.1])
@pytest.mark.parametrize("hardness", [None, 2.0])
def test_the_similarity_of_an_own_negative_that_the_loss_left_out_is_unknown(scope, margin, hardness) -> None:  # type: ignore[no-untyped-def]
    """Such a negative is excluded, is the positive, or is nearer than the margin allows.

    It must not be judged and must not enter a mean.
    """
    rows, step_plan = table().detach(), step(scope, 7)
    part = step_plan.parts[0]
    assert isinstance(part, QueryPart)
    output = objective(TaskLossSettings("faq", 0.1, margin=margin, hardness=hardness))(step_plan, rows)
    unit, left_out = F.normalize(rows, dim=1), 0
    for i, positive in enumerate(part.positive_BP[:, 0]):
        cosine = unit[part.document_N] @ unit[part.query_B[i]]
        excluded = {-1, int(positive), *part.excluded_BX[i].tolist()}
        for m, negative in enumerate(part.negative_BM[i].tolist()):
            near = margin is not None and cosine[negative] > cosine[positive] + margin
            found = output.own_similarity["faq"][i, m]
            if negative in excluded or near:
                assert found.isnan()
                left_out += negative >= 0
            else:
                torch.testing.assert_close(found, cosine[negative])
    assert 0 < left_out < (part.negative_BM >= 0).sum()


def largest_differences(num_queries: int) -> dict[str, float]:
    """Runs on a rank: for each option the largest difference between the sum over the shares and the whole step."""
    found = {}
    for scope, options in OPTIONS:
        terms, step_plan = replace(TaskLossSettings("faq", 0.1), **options), step(scope, num_queries)
        results = []
        for share, peers in (((0, 1), None), ((comm.rank(), comm.world_size()), comm.RingPeers())):
            rows = table()
            output = objective(terms)(step_plan, rows, share, peers)
            (gradient,) = torch.autograd.grad(output.loss, rows)
            results.append([output.loss.detach(), gradient, *output.metrics.values(), *output.own_similarity.values()])
        summed = [(of_step, comm.all_reduce_sum(of_share.clone())) for of_step, of_share in zip(*results, strict=True)]
        assert all(torch.equal(of_step.isnan(), of_share.isnan()) for of_step, of_share in summed)
        differences = [(of_share - of_step).nan_to_num() for of_step, of_share in summed]
        found[f"{scope} {options}"] = max(difference.abs().max().item() for difference in differences)
    return found


@pytest.mark.distributed
@pytest.mark.parametrize(("world", "num_queries"), [(2, 7), (3, 2)])
def test_the_shares_of_a_step_add_up_to_the_whole_with_every_option(world: int, num_queries: int) -> None:
    """Of three ranks one has no query, but takes part in the sums over queries of the symmetric loss, too."""
    for found in run_ranks(world, largest_differences, num_queries):
        assert max(found.values()) < 1e-12, max(found, key=found.__getitem__)
