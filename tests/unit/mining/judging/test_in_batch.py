"""Where negatives stand among a step's documents: equal to loops over all texts, and dependent on the order only."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from harness import comm
from harness.data.batch.deal import deal
from harness.data.config import NegativesConfig
from harness.data.plan.plan import plan
from harness.data.plan.task import Task
from harness.engine.step import Step
from harness.mining.config import MiningConfig, build_rule
from harness.mining.judging import in_batch
from harness.mining.judging.in_batch import compared_documents, stand, standings
from harness.mining.judging.slots import Slots, Standing
from harness.types import QueryPart
from tests.ranks import run_ranks
from tests.tiny import text

NAN, DIM, NUM_DIMS = np.nan, 12, 8


def answer(i: int) -> str:
    return text(100 + i)


def rows() -> list[dict[str, object]]:
    """Queries that share texts: row 1's positive is a negative of row 0, and rows 2 and 3 ask the same."""
    made = [
        {"query": text(i), "positive": answer(i), "negative": [text(1000 + 3 * i + j) for j in range(3)]}
        for i in range(8)
    ]
    made[0]["negative"] = [answer(1), text(500), text(501)]
    made[3]["query"] = text(2)
    made[5]["positive"] = [answer(5), answer(50)]
    return made


@pytest.fixture
def tasks(open_) -> list[Task]:
    negatives = NegativesConfig(per_query=3)
    return [open_("retrieval", rows(), "faq", quota=8, negatives=negatives, positives="all")]


def planned(tasks: list[Task], num_ranks: int = 1) -> Step:
    step_plan = plan(tasks, seed=0, step=1)
    return Step(step_plan, deal(step_plan.texts.length_T, num_ranks, 32), (), 0)


def table_of(step: Step) -> torch.Tensor:
    return torch.randn(len(step.plan.texts), DIM, generator=torch.Generator().manual_seed(3))


def embeddings_of(step: Step) -> list[torch.Tensor]:
    """What the embed phase returns on this rank; a micro-batch without texts has a row of padding."""
    table_TD = table_of(step)
    batches = [torch.from_numpy(batch) for batch in step.schedule.micro_batches[comm.rank()]]
    return [table_TD[batch] if len(batch) else torch.ones(1, DIM) for batch in batches]


def cosines(step: Step, part: QueryPart) -> np.ndarray:
    """[B, N], of the first dimensions."""
    row_TD = table_of(step).double().numpy()[:, :NUM_DIMS]
    unit_TD = row_TD / np.linalg.norm(row_TD, axis=1, keepdims=True)
    return unit_TD[part.query_B] @ unit_TD[part.document_N].T


def own(part: QueryPart, cosine_BN: np.ndarray) -> np.ndarray:
    """The similarities as the loss gives them: NaN for padding and for known positives."""
    own_BM = np.take_along_axis(cosine_BN, np.maximum(part.negative_BM, 0), 1)
    known = [[n in part.excluded_BX[i] for n in row] for i, row in enumerate(part.negative_BM)]
    return np.where((part.negative_BM < 0) | np.array(known), NAN, own_BM)


def by_loops(part: QueryPart, cosine_BN: np.ndarray, position_C: np.ndarray) -> Standing:
    quantile_BM = np.full(part.negative_BM.shape, NAN)
    is_above_BM = np.zeros(part.negative_BM.shape, dtype=bool)
    own_BM = own(part, cosine_BN)
    for i in range(len(part.query_B)):
        positives = [n for n in part.positive_BP[i].tolist() if n >= 0]
        never = {*positives, *part.negative_BM[i].tolist(), *part.excluded_BX[i].tolist()}
        others = [cosine_BN[i, n] for n in position_C.tolist() if n not in never]
        for m, similarity in enumerate(own_BM[i]):
            if part.negative_BM[i, m] >= 0:
                lowest = min(cosine_BN[i, n] for n in positives)
                is_above_BM[i, m] = np.isnan(similarity) or similarity > lowest
                if not np.isnan(similarity):
                    quantile_BM[i, m] = sum(other < similarity for other in others) / len(others)
    return Standing(quantile_BM, is_above_BM)


@pytest.mark.parametrize("most", [256, 7])
def test_the_standing_equals_loops_over_all_documents(tasks, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first dimensions are compared, as the last Matryoshka level does. most 7: a sample of the documents."""
    monkeypatch.setattr(in_batch, "MOST_COMPARED", most)
    step = planned(tasks)
    (part,) = step.plan.parts
    cosine_BN = cosines(step, part)
    expected = by_loops(part, cosine_BN, compared_documents(len(part.document_N)))
    found = standings(step, embeddings_of(step), {"faq": own(part, cosine_BN)}, {"faq"}, NUM_DIMS)["faq"]
    np.testing.assert_allclose(found.quantile_BM, expected.quantile_BM, atol=1e-12)
    np.testing.assert_array_equal(found.is_above_BM, expected.is_above_BM)
    assert len(np.unique(found.quantile_BM[np.isfinite(found.quantile_BM)])) > 3
    assert found.is_above_BM.any()
    assert not found.is_above_BM.all()


def test_known_positives_of_any_row_are_not_compared_with(tasks) -> None:
    """Rows 2 and 3 ask the same: the positive of one is no document to compare the other's negatives with."""
    part = planned(tasks).plan.parts[0]
    is_other_BN = in_batch.is_other_document(part, np.arange(len(part.document_N)))
    place = {row: place for place, row in enumerate(part.row_B.tolist())}
    for row, twin in ((2, 3), (3, 2)):
        assert not is_other_BN[place[row], part.positive_BP[place[twin], 0]]
    assert is_other_BN[place[4], part.positive_BP[place[3], 0]]
    assert (is_other_BN.sum(1) >= len(part.document_N) - 6).all()


def test_the_sample_is_spread_evenly_and_depends_on_the_number_of_documents_only() -> None:
    assert compared_documents(5).tolist() == [0, 1, 2, 3, 4]
    position_C = compared_documents(1000)
    assert len(np.unique(position_C)) == in_batch.MOST_COMPARED
    assert set(np.diff(position_C)) <= {3, 4}


def test_without_other_documents_the_quantile_is_unknown() -> None:
    nothing = torch.zeros(1, 2, dtype=torch.bool)
    quantile, above = stand(torch.rand(1, 2), nothing, torch.tensor([[0.5]]), torch.tensor([0.4]))
    assert (bool(quantile.isnan()), above.tolist()) == (True, [[1.0]])


GRID = st.integers(-16, 16)
MONOTONE = st.lists(st.floats(1e-3, 10), min_size=33, max_size=33).map(np.cumsum)


@st.composite
def uses(draw) -> list[tuple[np.ndarray, ...]]:
    """Four uses of three negatives of two queries: cosines (multiples of 1/16) to six documents, own, positives."""
    number = lambda *shape: np.array(draw(st.lists(GRID, min_size=int(np.prod(shape)), max_size=int(np.prod(shape)))))  # noqa: E731
    is_other = np.array(draw(st.lists(st.booleans(), min_size=12, max_size=12))).reshape(2, 6)
    return [(number(12).reshape(2, 6), is_other, number(6).reshape(2, 3), number(2)) for _ in range(4)]


def judged(of_uses, change, **settings) -> list[list]:
    """What the rule `relative` judges after each use, if every cosine c is change(c)."""
    rule = build_rule(MiningConfig(rule="relative", **settings))
    assert rule is not None
    memory = {name: np.full((2, 3), value, np.float32) for name, value in rule.memory.items()}
    found = []
    for similarity, is_other, negative, positive in of_uses:
        changed = (torch.tensor(change(value), dtype=torch.float64) for value in (similarity, negative, positive))
        similarity_BC, own_BM, positive_B = changed
        quantile, above = stand(similarity_BC, torch.tensor(is_other), own_BM, positive_B)
        memory = rule.remember(memory, Standing(quantile.numpy(), above.numpy() > 0))
        judgement = rule.judge(Slots(np.arange(2), own_BM.numpy(), own_BM.numpy(), memory))
        found += [
            judgement.easy_BM.tolist(),
            judgement.too_hard_BM.tolist(),
            np.nan_to_num(memory["quantile"]).tolist(),
        ]
    return found


@given(uses(), MONOTONE, st.floats(1e-3, 100))
def test_neither_a_temperature_nor_a_monotone_change_of_the_cosines_changes_a_judgement(of_uses, table, temperature):
    """The softmax mass of a negative, or v2's thresholds, would change with both."""
    settings = {"quantile": 0.5, "uses_above": 2}
    as_they_are = judged(of_uses, lambda value: value / 16, **settings)
    assert judged(of_uses, lambda value: value / 16 / temperature, **settings) == as_they_are
    assert judged(of_uses, lambda value: table[value + 16], **settings) == as_they_are


def test_the_property_is_not_vacuous() -> None:
    """Among such uses there are easy negatives and ones that are too hard, and a change of the order is seen."""
    random = np.random.default_rng(0)
    of_uses = [
        (random.integers(-16, 17, (2, 6)), np.ones((2, 6), bool), np.array([[-12, 2, 16]] * 2), np.array([8, 8]))
        for _ in range(4)
    ]
    found = judged(of_uses, lambda value: value / 16, quantile=0.5, uses_above=2)
    easy, too_hard = np.array(found[0::3]), np.array(found[1::3])
    assert easy[:, :, 0].all()
    assert too_hard[:, :, 2].tolist() == [[False, False], [True, True], [True, True], [True, True]]
    assert not (easy & too_hard).any()
    assert judged(of_uses, lambda value: -value / 16, quantile=0.5, uses_above=2) != found


def found_on_a_rank(step: Step, own_similarity: np.ndarray) -> Standing:
    return standings(step, embeddings_of(step), {"faq": own_similarity}, {"faq"}, NUM_DIMS)["faq"]


@pytest.mark.distributed
def test_every_rank_gets_what_one_rank_alone_finds(tasks) -> None:
    step = planned(tasks)
    own_BM = own(step.plan.parts[0], cosines(step, step.plan.parts[0]))
    alone = found_on_a_rank(step, own_BM)
    for found in run_ranks(2, found_on_a_rank, planned(tasks, 2), own_BM):
        np.testing.assert_array_equal(found.quantile_BM, alone.quantile_BM)
        np.testing.assert_array_equal(found.is_above_BM, alone.is_above_BM)
