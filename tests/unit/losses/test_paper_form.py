"""Encoding each text once gives the gradient of the paper's form, in which GPUs repeat queries and positives.

In the paper (eq. 3, fig. 3) N GPUs encode the same queries and positives, and each GPU encodes n different negatives of
each query; the softmax is over all N * n negatives. The gradients are equal if each repeated text counts once, that is,
if the N copies of a query share its gradient.
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
    """A step of five queries with twelve own negatives each."""
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
    """Gradients [GPUs, parameters] of eq. 3 for each GPU's copy of the encoder, before they are averaged.

    A GPU encodes the queries, the positives and n negatives, and gathers the negatives of the other GPUs. With
    gather_with_gradient, its gradient includes the losses of all GPUs, otherwise only its own loss.
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
    assert len(step.texts) == QUERIES * (2 + GPUS * NEGATIVES_PER_GPU)  # the plan holds each text once
    ours = Objective([TaskLossSettings("task")], LossConfig(temperature=TEMPERATURE), None, None)(
        step, encoder(feature_TF)
    )
    found = gradient(ours.loss, encoder)
    of_gpus = gradients_of_the_gpus(step, encoder, feature_TF, gather_with_gradient=True)
    torch.testing.assert_close(found, of_gpus.mean(0), rtol=1e-9, atol=1e-12)
    assert (F.cosine_similarity(of_gpus, found, dim=1) < 0.999).all()  # no single GPU has this gradient
    # This test can fail: if each GPU uses its own loss only, the repeated queries and positives weigh too much.
    repeated = gradients_of_the_gpus(step, encoder, feature_TF, gather_with_gradient=False).sum(0)
    assert F.cosine_similarity(repeated, found, dim=0) < 0.999
