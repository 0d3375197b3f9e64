"""Each text encoded once gives the gradient of the paper's form, where GPUs repeat query and positive (eq. 3, fig. 3).

In the paper N GPUs hold the same queries and positives and n different negatives of each query; the softmax runs over
the N * n negatives of all. With the repeats counted once, the N copies of a query share its gradient.
"""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.data.config import NegativesConfig
from harness.data.plan import plan
from harness.losses.config import LossConfig
from harness.losses.objective import Objective, TaskTerms
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
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(encoder.parameters()))])


def losses_of_the_gpus(step, encoder: nn.Module, feature_TF: Tensor, *, gather_with_gradient: bool) -> Tensor:
    """[GPUs]: eq. 3 on each, whose own copies of query, positive and n negatives it has encoded itself."""
    part = step.parts[0]
    document = part.document_N
    copies = [
        tuple(
            F.normalize(encoder(feature_TF[rows]), dim=-1)
            for rows in (
                part.query_B,
                document[part.positive_BP[:, 0]],
                document[part.negative_BM[:, gpu * NEGATIVES_PER_GPU : (gpu + 1) * NEGATIVES_PER_GPU]],
            )
        )
        for gpu in range(GPUS)
    ]
    losses = []
    for gpu, (query, positive, _) in enumerate(copies):
        negatives = [own if gather_with_gradient or gpu == k else own.detach() for k, (_, _, own) in enumerate(copies)]
        s_positive = (query * positive).sum(-1, keepdim=True) / TEMPERATURE
        s_negative = torch.einsum("bd,bmd->bm", query, torch.cat(negatives, dim=1)) / TEMPERATURE
        losses.append((torch.cat([s_positive, s_negative], 1).logsumexp(1) - s_positive[:, 0]).mean())
    return torch.stack(losses)


def test_our_gradient_is_that_of_the_papers_form_with_the_repeats_counted_once(step):
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(7, 16), nn.Tanh(), nn.Linear(16, 8)).double()
    feature_TF = torch.randn(len(step.texts), 7, dtype=torch.float64)
    assert len(step.texts) == QUERIES * (2 + GPUS * NEGATIVES_PER_GPU)  # each text once
    ours = Objective([TaskTerms("task")], LossConfig(temperature=TEMPERATURE), None, None)(step, encoder(feature_TF))
    once = losses_of_the_gpus(step, encoder, feature_TF, gather_with_gradient=True).mean()
    torch.testing.assert_close(ours.loss, once, rtol=1e-12, atol=0)
    expected = gradient(once, encoder)
    torch.testing.assert_close(gradient(ours.loss, encoder), expected, rtol=1e-9, atol=1e-12)
    # Guard: counted on every GPU, as a sum of the GPUs' own gradients would, the repeats give another direction.
    repeated = losses_of_the_gpus(step, encoder, feature_TF, gather_with_gradient=False).sum()
    assert F.cosine_similarity(gradient(repeated, encoder), expected, dim=0) < 0.999
