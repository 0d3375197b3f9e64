"""A step with tasks of every loss: its formula, the sum over its shares, and the effect of each task setting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sentence_transformers.util import pairwise_angle_sim
from torch import Tensor

from harness.loss_table import LOSSES
from harness.losses.config import LossConfig
from harness.losses.interface import LossTerm, TaskLossSettings
from harness.losses.margin_mse import margin_mse_term
from harness.losses.objective import Objective
from harness.types import PairPart, QueryPart, RaggedLists, StepPlan, StepTexts, TeacherRows
from tests.unit.losses.naive_geometry import NAIVE_GEOMETRY_LOSS

NUM_TEXTS, WIDTH = 40, 6
DIMS, WEIGHTS = (3, 6), (0.5, 1.0)
TASKS = {
    "several": TaskLossSettings("several"),  # queries with several positives, some without a negative
    "both": TaskLossSettings("both", temperature=0.5, weight=3.0, losses=("info_nce", "kl"), teacher_temperature=2.0),
    "margin": TaskLossSettings("margin", losses=("margin_mse",)),
    "vectors": TaskLossSettings("vectors", weight=0.5, losses=("teacher_cosine", "teacher_similarity", "spread_out")),
    "angles": TaskLossSettings("angles", weight=2.0, losses=("cosent", "angle")),
    "pairs": TaskLossSettings("pairs", temperature=0.1, losses=("cosent",)),
}
NONE = np.full((4, 0), -1)


def query_part(task: str, positive_BP: list[list[int]], negative_BM: list[list[int]], first: int) -> QueryPart:
    """Queries are rows first, first + 1 ... of the table. Ten documents follow; some belong to other tasks, too."""
    positive, negative = np.array(positive_BP), np.array(negative_BM).reshape(len(positive_BP), -1)
    random = np.random.default_rng(first)
    scores = [
        np.where(place >= 0, random.normal(size=place.shape), np.nan).astype(np.float32)
        for place in (positive, negative)
    ]
    number = np.arange(len(positive))
    sides = (number, positive, negative)
    teacher = TeacherRows(*(random.normal(size=(*side.shape, WIDTH)).astype(np.float32) for side in sides))
    documents = np.arange(first + 2, first + 12)
    excluded = RaggedLists.of_padded(NONE[: len(number)])
    part = QueryPart(
        task, number, first + number, documents, positive, negative, negative, excluded, True, scores[0], scores[1]
    )
    return replace(part, teacher=teacher)


def pair_part(task: str) -> PairPart:
    random = np.random.default_rng(len(task))
    text1, text2 = random.integers(0, NUM_TEXTS, (2, 7))
    return PairPart(task, np.arange(7), text1, text2, random.integers(0, 3, 7).astype(np.float32))


PARTS = (
    query_part("several", [[0, 1, -1], [2, -1, -1], [3, 4, 5], [6, -1, -1]], [[7, 8], [9, -1], [-1, -1], [0, 1]], 0),
    query_part("both", [[0], [1]], [[2, 3, 4], [5, -1, -1]], 12),
    query_part("margin", [[0, 1], [2, -1], [3, -1]], [[4, 5], [-1, -1], [6, -1]], 24),
    query_part("vectors", [[0, 1], [2, -1], [0, -1]], [[3, 4], [-1, -1], [5, -1]], 6),
    pair_part("angles"),
    pair_part("pairs"),
)


def step(*names: str) -> StepPlan:
    texts = StepTexts(np.zeros(NUM_TEXTS, np.int32), np.arange(NUM_TEXTS), np.ones(NUM_TEXTS, np.int64))
    return StepPlan(1, texts, tuple(part for part in PARTS if part.task in names or not names))


def table() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(NUM_TEXTS, WIDTH, generator=generator, dtype=torch.float64).requires_grad_()


def objective(tasks: dict[str, TaskLossSettings] = TASKS, **loss: Any) -> Objective:
    config = LossConfig(temperature=0.2, cosent_temperature=0.3, beta=0.8, **loss)
    return Objective(tuple(tasks.values()), config, DIMS, WEIGHTS)


def naive_info_nce(positive: Tensor, negative: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    positive, negative = positive / temperature, negative / temperature
    losses = [torch.cat([one[None], negative]).logsumexp(0) - one for one in positive]
    return torch.stack(losses).mean()


def naive_margin_mse(positive: Tensor, negative: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    positive, negative = positive / temperature, negative / temperature
    if not len(negative):
        return positive.new_zeros(())
    count = len(positive)
    margin, expected = positive[:, None] - negative, teacher[:count, None] - teacher[count:]
    return (margin - expected).square().mean()


def naive_kl(positive: Tensor, negative: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return F.kl_div((torch.cat([positive, negative]) / temperature).log_softmax(0), teacher.softmax(0), reduction="sum")


def naive_cosent(similarity: Tensor, score: np.ndarray, temperature: float) -> Tensor:
    similarity = similarity / temperature
    pairs = [(i, j) for i in range(len(score)) for j in range(len(score)) if score[i] > score[j]]
    return torch.stack([(similarity[j] - similarity[i]).exp() for i, j in pairs]).sum().log1p()


# (positive, negative, teacher, temperature) → loss of a query. positive, negative: its cosines; teacher: a teacher's
# scores of both / teacher temperature.
NAIVE_QUERY_LOSS: dict[str, Callable[[Tensor, Tensor, Tensor, float], Tensor]] = {
    "info_nce": naive_info_nce,
    "margin_mse": naive_margin_mse,
    "kl": naive_kl,
}
# Loss → (similarity of two texts, function from similarities, scores and temperature to the loss).
NAIVE_PAIR_LOSS: dict[str, tuple[Callable[..., Tensor], Callable[[Tensor, np.ndarray, float], Tensor]]] = {
    "cosent": (F.cosine_similarity, naive_cosent),
    "angle": (pairwise_angle_sim, naive_cosent),
}


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_of_the_table_has_a_naive_form_and_a_task_here(name: str) -> None:
    """So that the tests below cover every loss."""
    here = "in tests/unit/losses/test_objective_losses.py"
    assert name in NAIVE_QUERY_LOSS or name in NAIVE_PAIR_LOSS or name in NAIVE_GEOMETRY_LOSS, (
        f"loss {name}: add its naive form to NAIVE_QUERY_LOSS (a value per query) or NAIVE_PAIR_LOSS (a value for all "
        f"pairs) {here}, or to NAIVE_GEOMETRY_LOSS (of embeddings, not of their cosines) in naive_geometry.py"
    )
    assert any(name in TASKS[part.task].losses for part in PARTS), (
        f"loss {name}: add it to `losses` of a task of TASKS whose queries or pairs are in PARTS, both {here}"
    )


def losses_of_a_query(part: QueryPart, query: int, rows: Tensor) -> Tensor:
    """The sum of the task's losses for one query, by loops over levels, positives and negatives."""
    task = TASKS[part.task]
    places = [[place for place in listed[query] if place >= 0] for listed in (part.positive_BP, part.negative_BM)]
    assert part.positive_score_BP is not None
    assert part.negative_score_BM is not None
    scores = torch.from_numpy(np.concatenate([part.positive_score_BP[query], part.negative_score_BM[query]])).double()
    teacher = scores[~scores.isnan()] / task.teacher_temperature
    count, total = len(places[0]), rows.new_zeros(())
    for name in set(task.losses) & set(NAIVE_GEOMETRY_LOSS):
        total = total + NAIVE_GEOMETRY_LOSS[name](part, query, rows, DIMS, WEIGHTS)
    for dim, weight in zip(DIMS, WEIGHTS, strict=True):
        unit = F.normalize(rows[:, :dim], dim=1)
        cosine = unit[part.document_N[[*places[0], *places[1]]]] @ unit[part.query_B[query]]
        for name in set(task.losses) - set(NAIVE_GEOMETRY_LOSS):
            loss = NAIVE_QUERY_LOSS[name](cosine[:count], cosine[count:], teacher, task.temperature or 0.2)
            total = total + weight * loss
    return total


def loss_of_pairs(part: PairPart, rows: Tensor) -> Tensor:
    task, total = TASKS[part.task], rows.new_zeros(())
    for dim, weight in zip(DIMS, WEIGHTS, strict=True):
        for name in task.losses:
            similarity, loss = NAIVE_PAIR_LOSS[name]
            compared = similarity(rows[part.text1_S, :dim], rows[part.text2_S, :dim])
            total = total + weight * loss(compared, part.score_S, task.temperature or 0.3)
    return total


def test_the_loss_is_the_weighted_mean_over_all_queries_plus_beta_times_that_over_the_pair_tasks() -> None:
    """All query losses are in one mean, all pair losses in the other. A task with two losses contributes their sum."""
    rows = table()
    queries = {
        part.task: [losses_of_a_query(part, i, rows) for i in range(len(part.query_B))]
        for part in PARTS
        if isinstance(part, QueryPart)
    }
    pairs = {part.task: loss_of_pairs(part, rows) for part in PARTS if isinstance(part, PairPart)}
    query_weight = sum(TASKS[name].weight * len(values) for name, values in queries.items())
    expected = sum(TASKS[name].weight * torch.stack(values).sum() for name, values in queries.items()) / query_weight
    pair_weight = sum(TASKS[name].weight for name in pairs)
    expected = expected + 0.8 * sum(TASKS[name].weight * value for name, value in pairs.items()) / pair_weight
    output = objective()(step(), rows)
    torch.testing.assert_close(output.loss, expected, rtol=1e-9, atol=0)
    gradient, expected_gradient = (torch.autograd.grad(loss, rows)[0] for loss in (output.loss, expected))
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-8, atol=1e-11)
    for name, values in queries.items():
        mean = torch.stack(values).detach().mean()
        torch.testing.assert_close(output.metrics[f"loss/{name}"], mean, rtol=1e-9, atol=0)
    for name, value in pairs.items():
        torch.testing.assert_close(output.metrics[f"loss/{name}"], value.detach(), rtol=1e-9, atol=0)


@pytest.mark.parametrize("names", [(), ("both",), ("margin", "angles")])
@pytest.mark.parametrize("count", [2, 3, 7])
def test_the_shares_of_a_step_with_losses_of_every_kind_add_up_to_the_whole(names: tuple[str, ...], count: int) -> None:
    """Seven shares: most hold no query of a given task, and at least five hold no pair."""
    rows, loss_of_step = table(), objective()(step(*names), table())
    shares = [objective()(step(*names), rows, (index, count)) for index in range(count)]
    assert sum(share.loss.item() for share in shares) == pytest.approx(loss_of_step.loss.item(), rel=1e-12)
    summed = torch.stack([torch.autograd.grad(share.loss, rows)[0] for share in shares]).sum(0)
    expected = table()
    gradient = torch.autograd.grad(objective()(step(*names), expected).loss, expected)[0]
    torch.testing.assert_close(summed, gradient, rtol=1e-9, atol=1e-12)
    for key, metric in loss_of_step.metrics.items():
        found = torch.stack([share.metrics[key] for share in shares]).sum()
        torch.testing.assert_close(found, metric, equal_nan=True)
    for task, similarity in loss_of_step.own_similarity.items():
        summed = torch.stack([share.own_similarity[task] for share in shares]).sum(0)
        torch.testing.assert_close(summed, similarity, equal_nan=True)


def test_a_query_loss_that_returns_no_similarities_is_stopped_with_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mining and the metrics read them."""

    def term_without_similarities(task: TaskLossSettings, part: QueryPart, table_TD: Tensor, share: Any) -> LossTerm:
        return replace(margin_mse_term(task, part, table_TD, share), similarities=None)

    monkeypatch.setattr("harness.losses.margin_mse.margin_mse_term", term_without_similarities)
    with pytest.raises(AssertionError, match=r"^loss margin_mse: got a LossTerm without similarities .* task margin"):
        objective()(step("margin"), table())


def test_the_similarities_are_reported_once_whichever_losses_a_task_has() -> None:
    """The bank reads these similarities, so it can watch the negatives of distilled tasks, too."""
    found = {}
    for losses in (("info_nce",), ("kl",), ("info_nce", "kl"), ("kl", "info_nce")):
        output = objective(TASKS | {"both": replace(TASKS["both"], losses=losses)})(step("both"), table())
        found[losses] = output
    expected = found["info_nce",]
    for output in found.values():
        for key in ("positive_similarity", "negative_similarity"):
            torch.testing.assert_close(output.metrics[key], expected.metrics[key])
        torch.testing.assert_close(output.own_similarity["both"], expected.own_similarity["both"], equal_nan=True)


def test_masks_are_those_of_info_nce_wherever_it_stands_among_the_losses() -> None:
    found = []
    for losses in (("info_nce",), ("info_nce", "kl"), ("kl", "info_nce")):
        tasks = TASKS | {"both": replace(TASKS["both"], losses=losses, margin=-0.2)}
        found.append(objective(tasks)(step("both"), table()))
    assert 0 < found[0].metrics["false_negatives_masked"] < 4
    for output in found:
        assert output.metrics["false_negatives_masked"] == found[0].metrics["false_negatives_masked"]
        similarities = output.own_similarity["both"], found[0].own_similarity["both"]
        torch.testing.assert_close(*similarities, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("both", {"temperature": 0.7}),
        ("margin", {"temperature": 0.7}),
        ("angles", {"temperature": 0.7}),
        ("both", {"teacher_temperature": 5.0}),
        ("several", {"margin": -0.2}),
        ("margin", {"losses": ("kl",)}),
    ],
)
def test_a_setting_of_a_task_changes_that_tasks_loss_and_no_others(name: str, change: dict[str, Any]) -> None:
    changed = TASKS | {name: replace(TASKS[name], **change)}
    before, after = (objective(tasks)(step(), table()).metrics for tasks in (TASKS, changed))
    different = {key.removeprefix("loss/") for key in before if key.startswith("loss/") and before[key] != after[key]}
    assert different == {name}


@pytest.mark.parametrize("name", ["several", "angles"])
def test_a_weight_changes_what_a_task_adds_to_the_loss_and_no_tasks_own_loss(name: str) -> None:
    """Doubling a task's weight changes the mean of its kind (queries or pairs) by the formula, not the other mean."""
    changed = TASKS | {name: replace(TASKS[name], weight=2 * TASKS[name].weight)}
    for tasks in (TASKS, changed):
        metrics = objective(tasks)(step(), table()).metrics
        query_counts = {part.task: len(part.query_B) for part in PARTS if isinstance(part, QueryPart)}
        pair_counts = {part.task: 1 for part in PARTS if isinstance(part, PairPart)}
        means = []
        for counts in (query_counts, pair_counts):
            weights = {task: tasks[task].weight * count for task, count in counts.items()}
            means.append(sum(weights[task] * metrics[f"loss/{task}"] for task in counts) / sum(weights.values()))
        torch.testing.assert_close(metrics["loss"], means[0] + 0.8 * means[1], rtol=1e-9, atol=0)
    before, after = (objective(tasks)(step(), table()).metrics for tasks in (TASKS, changed))
    assert before["loss"] != after["loss"]
    assert all(before[key] == after[key] for key in before if key != "loss")
