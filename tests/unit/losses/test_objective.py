"""The step's loss equals its formula, and the losses of a step's shares add up to the loss of the step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from harness.losses.config import LossConfig
from harness.losses.interface import TaskLossSettings
from harness.losses.objective import Objective
from harness.types import NegativesScope, PairPart, QueryPart, RaggedLists, StepPlan, StepTexts

NUM_TEXTS, WIDTH = 60, 8
TASKS = (
    TaskLossSettings("faq", weight=2.0, margin=0.3),
    TaskLossSettings("intents", temperature=0.2),
    TaskLossSettings("similarity", losses=("cosent",)),
    TaskLossSettings("paraphrase", temperature=0.1, losses=("cosent",)),
    TaskLossSettings("absent"),
)
LEVELS = {"matryoshka_dims": (3, 8), "matryoshka_weights": (0.5, 1.0)}


def objective(**loss: Any) -> Objective:
    return Objective(TASKS, LossConfig(temperature=0.05, cosent_temperature=0.3, beta=0.8, **loss), **LEVELS)


def table() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(NUM_TEXTS, WIDTH, generator=generator, dtype=torch.float64).requires_grad_()


def info_nce_part(
    task: str, scope: NegativesScope, num_queries: int, num_own: int, random: np.random.Generator
) -> QueryPart:
    num_documents = 15
    return QueryPart(
        task=task,
        row_B=np.arange(num_queries),
        query_B=random.integers(0, NUM_TEXTS, num_queries),  # texts are repeated within and across tasks
        document_N=random.permutation(NUM_TEXTS)[:num_documents],
        positive_BP=random.integers(0, num_documents, (num_queries, 1)),
        negative_BM=random.integers(-1, num_documents, (num_queries, num_own)),
        rank_BM=np.tile(np.arange(num_own), (num_queries, 1)),
        excluded_BX=RaggedLists.of_padded(random.integers(-1, num_documents, (num_queries, 2))),
        own_negatives_only=scope == "own",
    )


def cosent_part(task: str, random: np.random.Generator) -> PairPart:
    text1, text2 = random.integers(0, NUM_TEXTS, (2, 9))
    return PairPart(task, np.arange(9), text1, text2, random.integers(0, 3, 9).astype(np.float32))


def plan(*kinds: str) -> StepPlan:
    random = np.random.default_rng(3)
    parts = {
        "faq": info_nce_part("faq", "task", 7, 0, random),
        "intents": info_nce_part("intents", "own", 5, 3, random),
        "similarity": cosent_part("similarity", random),
        "paraphrase": cosent_part("paraphrase", random),
    }
    number = np.arange(NUM_TEXTS)
    texts = StepTexts(np.zeros(NUM_TEXTS, np.int32), number, np.ones(NUM_TEXTS, np.int64))
    return StepPlan(1, texts, tuple(parts[kind] for kind in kinds or parts))


def test_the_loss_is_the_formula_of_the_design() -> None:
    """Weighted mean over all queries plus beta times the mean over the STS tasks, computed cosine by cosine."""
    rows, step_plan = table(), plan()
    by_task = {part.task: naive(part, rows) for part in step_plan.parts}
    output = objective()(step_plan, rows)
    faq, intents = by_task["faq"], by_task["intents"]
    sts = (by_task["similarity"] + by_task["paraphrase"]) / 2
    expected = (2 * faq.sum() + intents.sum()) / (2 * 7 + 1 * 5) + 0.8 * sts
    torch.testing.assert_close(output.loss, expected, rtol=1e-10, atol=0)
    gradient, expected_gradient = (torch.autograd.grad(loss, rows)[0] for loss in (output.loss, expected))
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-9, atol=1e-12)
    for name, values in by_task.items():
        torch.testing.assert_close(output.metrics[f"loss/{name}"], values.detach().mean(), rtol=1e-10, atol=0)


def naive(part: QueryPart | PairPart, rows: Tensor) -> Tensor:
    """The loss of each query (InfoNCE) or of the task (CoSENT), summed over the levels."""
    total = torch.zeros((), dtype=rows.dtype)
    for dim, weight in zip(*LEVELS.values(), strict=True):
        unit = F.normalize(rows[:, :dim], dim=1)
        if isinstance(part, QueryPart):
            values = [naive_info_nce(part, query, unit) for query in range(len(part.query_B))]
            total = total + weight * torch.stack(values)
        else:
            total = total + weight * naive_cosent(part, unit)
    return total


def naive_info_nce(part: QueryPart, query: int, unit: Tensor) -> Tensor:
    task = next(task for task in TASKS if task.name == part.task)
    cosine = unit[part.document_N] @ unit[part.query_B[query]]
    positive = part.positive_BP[query, 0]
    candidates = part.negative_BM[query] if part.own_negatives_only else range(len(cosine))
    kept = set(candidates) - {-1, positive} - set(part.excluded_BX[query])
    if task.margin is not None:
        kept = {document for document in kept if cosine[document] <= cosine[positive] + task.margin}
    logits = cosine[[positive, *sorted(kept)]] / (task.temperature or 0.05)
    return logits.logsumexp(0) - logits[0]


def naive_cosent(part: PairPart, unit: Tensor) -> Tensor:
    logit = (unit[part.text1_S] * unit[part.text2_S]).sum(1) / (0.1 if part.task == "paraphrase" else 0.3)
    score = part.score_S
    terms = [(logit[j] - logit[i]).exp() for i in range(9) for j in range(9) if score[i] > score[j]]
    return torch.stack(terms).sum().log1p()


@pytest.mark.parametrize("count", [2, 3, 11])
@pytest.mark.parametrize("kinds", [(), ("faq",), ("similarity",), ("intents", "paraphrase")])
def test_the_shares_of_a_step_add_up_to_the_whole(kinds: tuple[str, ...], count: int) -> None:
    """11 shares: some hold no example, but have a gradient (zero) and every metric, too."""
    rows, step = table(), plan(*kinds)
    loss_of_step = objective()(step, rows)
    shares = [objective()(step, rows, (index, count)) for index in range(count)]
    torch.testing.assert_close(sum_of(share.loss for share in shares), loss_of_step.loss, rtol=1e-12, atol=1e-14)
    gradients = [torch.autograd.grad(share.loss, rows)[0] for share in shares]
    torch.testing.assert_close(
        sum_of(gradients), torch.autograd.grad(loss_of_step.loss, rows)[0], rtol=1e-10, atol=1e-13
    )
    assert all(share.metrics.keys() == loss_of_step.metrics.keys() for share in shares)
    for key, metric in loss_of_step.metrics.items():
        found = sum_of(share.metrics[key] for share in shares)
        torch.testing.assert_close(found, metric, rtol=1e-10, atol=1e-12, equal_nan=True)


def sum_of(values: Any) -> Tensor:
    return torch.stack(list(values)).sum(0)


def test_every_task_of_the_run_has_a_metric_at_every_step() -> None:
    """Always in the same order, because the keys of metrics.jsonl are those of its first row."""
    for kinds in (("faq",), ("similarity",), ()):
        metrics = objective()(plan(*kinds), table()).metrics
        similarities = ["positive_similarity", "negative_similarity"]
        names = [f"loss/{task.name}" for task in TASKS]
        assert list(metrics) == ["loss", *names, *similarities, "queries_with_negatives", "false_negatives_masked"]
        assert not any(metric.requires_grad for metric in metrics.values())


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        (("faq",), {"loss/intents", "loss/similarity", "loss/paraphrase", "loss/absent"}),
        (
            ("similarity",),
            {
                "loss/faq",
                "loss/intents",
                "loss/paraphrase",
                "loss/absent",
                "positive_similarity",
                "negative_similarity",
            },
        ),
        ((), {"loss/absent"}),
    ],
)
def test_a_metric_is_nan_on_every_share_where_the_step_holds_nothing_to_measure_and_on_no_other(
    kinds: tuple[str, ...], expected: set[str]
) -> None:
    """Of 11 shares some hold no query and most no pair. Their metrics must be 0, because NaN would make the sum NaN."""
    for index in range(11):
        metrics = objective()(plan(*kinds), table(), (index, 11)).metrics
        assert {key for key, metric in metrics.items() if metric.isnan()} == expected
        assert all(metric.isfinite() for key, metric in metrics.items() if key not in expected)


def test_the_implementations_agree() -> None:
    reference, chunked = (objective(implementation=name)(plan(), table()) for name in ("reference", "chunked"))
    for key, metric in reference.metrics.items():
        torch.testing.assert_close(metric, chunked.metrics[key], rtol=1e-10, atol=1e-12, equal_nan=True)


@pytest.mark.usefixtures("two_threads")
def test_a_gradient_on_a_repeated_text_has_the_same_bits_every_time() -> None:
    """All queries are the same text. Its gradient is a sum over queries, so the order of this sum must be fixed."""
    part = info_nce_part("faq", "task", 500, 0, np.random.default_rng(0))
    part.query_B[:] = 0
    step = replace(plan("similarity"), parts=(part,))
    rows = table().detach().float().repeat(1, 200).requires_grad_()
    first, second = (torch.autograd.grad(objective()(step, rows).loss, rows)[0] for _ in range(2))
    assert torch.equal(first, second)


def test_the_gradient_term_by_term_is_that_of_the_whole_loss() -> None:
    """The gradient of a share without examples is zero, not None."""
    for kinds, share in (((), (0, 1)), ((), (1, 2)), (("similarity",), (1, 2))):
        rows, other = table(), table()
        expected, found = objective()(plan(*kinds), rows, share), objective().backward(plan(*kinds), other, share)
        (gradient,) = torch.autograd.grad(expected.loss, rows)
        assert other.grad is not None
        torch.testing.assert_close(other.grad, gradient, rtol=1e-12, atol=1e-14)
        assert not found.loss.requires_grad
        assert found.loss == expected.loss
        torch.testing.assert_close(found.metrics, expected.metrics, rtol=0, atol=0, equal_nan=True)


def test_memory_does_not_grow_with_the_number_of_tasks_of_a_step() -> None:
    """Measures the peak bytes that autograd saves for the backward pass, with its saved-tensor hooks."""
    one, four = (many_tasks(count) for count in (1, 4))
    assert peak(lambda: one[0].backward(one[1], table())) == peak(lambda: four[0].backward(four[1], table())) > 0
    assert peak(lambda: four[0](four[1], table()).loss.backward()) > 3 * peak(lambda: one[0].backward(one[1], table()))


def many_tasks(count: int) -> tuple[Objective, StepPlan]:
    names = [f"task{number}" for number in range(count)]
    parts = tuple(info_nce_part(name, "task", 7, 2, np.random.default_rng(0)) for name in names)
    return Objective([TaskLossSettings(name) for name in names], LossConfig(), **LEVELS), replace(plan(), parts=parts)


def peak(run: Callable[[], object]) -> int:
    alive, highest = [0], [0]

    class Saved:
        def __init__(self, tensor: Tensor) -> None:
            self.tensor, self.size = tensor, tensor.numel() * tensor.element_size()
            alive[0] += self.size
            highest[0] = max(highest[0], alive[0])

        def __del__(self) -> None:
            alive[0] -= self.size

    with torch.autograd.graph.saved_tensors_hooks(Saved, lambda saved: saved.tensor):
        run()
    return highest[0]


def test_a_symmetric_task_on_several_ranks_refuses_the_reference_and_names_the_knob() -> None:
    terms = [TaskLossSettings("faq"), TaskLossSettings("pairs", symmetric=True)]
    reference, chunked = (
        Objective(terms, LossConfig(implementation=name), None, None) for name in ("reference", "chunked")
    )
    reference.check_divisible(1)
    chunked.check_divisible(2)
    Objective(terms[:1], LossConfig(implementation="reference"), None, None).check_divisible(2)
    with pytest.raises(ValueError, match=r"^loss\.implementation: got reference on 2 ranks with tasks\.pairs\.neg"):
        reference.check_divisible(2)


@pytest.mark.parametrize("share", [(1, 1), (-1, 2), (0, 0)])
def test_a_share_that_does_not_exist_is_an_error(share: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="objective share"):
        objective()(plan(), table(), share)


def test_a_task_that_the_run_does_not_have_is_an_error() -> None:
    with pytest.raises(ValueError, match="'faq'"):
        Objective(TASKS[1:], LossConfig(), None, None)(plan(), table())
