"""Each text encoded once gives the gradient of the paper's form, where GPUs repeat query and positive (eq. 3, fig. 3).

In the paper N GPUs hold the same queries and positives and n different negatives of each query; the softmax runs over
the N * n negatives of all. With the repeats counted once, the N copies of a query share its gradient.
"""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.data.config import NegativesConfig
from harness.data.plan.plan import plan
from harness.losses.config import LossConfig
from harness.losses.interface import TaskLossSettings
from harness.losses.objective import Objective
from tests.tiny import text

GPUS, NEGATIVES_PER_GPU, QUERIES, TEMPERATURE = 4, 3, 5, 0.1


@pytest.fixture
def step(open_):
    """Five queries with twelve negatives of their own each."""
    number = GPUS * NEGATIVES_PER_GPU
    rows = [
        {"query": text(i), "positive": text(100 + i), "negative": [text(200 + number * i + j) for j in range(number)]}
        for i in range(QUERIES)
    ]
    negatives = NegativesConfig(scope="own", per_query=number)
    return plan([open_("retrieval", rows, quota=QUERIES, negatives=negatives)], seed=0, step=1)


def gradient(loss: Tensor, encoder: nn.Module) -> Tensor:
    gradients = torch.autograd.grad(loss, list(encoder.parameters()), retain_graph=True)
    return torch.cat([part.flatten() for part in gradients])


def gradients_of_the_gpus(step, encoder: nn.Module, feature_TF: Tensor, *, gather_with_gradient: bool) -> Tensor:
    """[GPUs, parameters]: of eq. 3, by the weights of each GPU's own copy of the encoder, before they are averaged.

    A GPU encodes the query, the positive and n negatives itself and gathers the others' negatives. If the gathering
    has a gradient, what the others' losses ask of its negatives comes back to it; else it sees its own loss only.
    """
    replicas = [deepcopy(encoder) for _ in range(GPUS)]
    part = step.parts[0]
    document = part.document_N
    copies = [
        tuple(
            F.normalize(replica(feature_TF[rows]), dim=-1)
            for rows in (
                part.query_B,
                document[part.positive_BP[:, 0]],
                document[part.negative_BM[:, gpu * NEGATIVES_PER_GPU : (gpu + 1) * NEGATIVES_PER_GPU]],
            )
        )
        for gpu, replica in enumerate(replicas)
    ]
    gathered = torch.cat([negatives for _, _, negatives in copies], dim=1)
    losses = []
    for query, positive, _ in copies:
        s_positive = (query * positive).sum(-1, keepdim=True) / TEMPERATURE
        s_negative = torch.einsum("bd,bmd->bm", query, gathered) / TEMPERATURE
        losses.append((torch.cat([s_positive, s_negative], 1).logsumexp(1) - s_positive[:, 0]).mean())
    seen = [sum(losses) if gather_with_gradient else loss for loss in losses]
    return torch.stack([gradient(loss, replica) for loss, replica in zip(seen, replicas, strict=True)])


def test_our_gradient_is_that_of_the_papers_form_with_the_repeats_counted_once(step):
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(7, 16), nn.Tanh(), nn.Linear(16, 8)).double()
    feature_TF = torch.randn(len(step.texts), 7, dtype=torch.float64)
    assert len(step.texts) == QUERIES * (2 + GPUS * NEGATIVES_PER_GPU)  # each text once
    ours = Objective([TaskLossSettings("task")], LossConfig(temperature=TEMPERATURE), None, None)(
        step, encoder(feature_TF)
    )
    found = gradient(ours.loss, encoder)
    of_gpus = gradients_of_the_gpus(step, encoder, feature_TF, gather_with_gradient=True)
    torch.testing.assert_close(found, of_gpus.mean(0), rtol=1e-9, atol=1e-12)
    assert (F.cosine_similarity(of_gpus, found, dim=1) < 0.999).all()  # only together do the GPUs have it
    # Guard: where each sees its own loss only, the repeats of query and positive outweigh the negatives.
    repeated = gradients_of_the_gpus(step, encoder, feature_TF, gather_with_gradient=False).sum(0)
    assert F.cosine_similarity(repeated, found, dim=0) < 0.999
