"""CoSENT: pairs of texts with a higher score shall be more similar than pairs with a lower one.

Over all pairs of rows i, j with score_i > score_j, c = cosine / temperature:
    loss = log(1 + sum exp(c_j - c_i)) = log(1 + sum_i exp(-c_i) * sum_{j: score_j < score_i} exp(c_j))
so one running log-sum-exp over the rows sorted by score replaces the S x S matrix: O(S log S).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from fused_contrastive.cosine import prefix_cosines
from torch import Tensor


def cosent(
    embedding1_SD: Tensor,
    embedding2_SD: Tensor,
    score_S: Tensor,
    *,
    temperature: float,
    matryoshka_dims: Sequence[int] | None = None,
    matryoshka_weights: Sequence[float] | None = None,
    implementation: Literal["auto", "reference", "chunked"] = "chunked",
) -> Tensor:
    """Scalar loss (at least float32): sum over levels of level weight * CoSENT on the cosines of the prefixes.

    Rows need no normalisation. Fewer than two different scores give 0 with zero gradients. Only the order of the
    scores counts. `reference` builds the S x S matrix, `chunked` (= `auto`) does not.

    Raises:
        ValueError: shapes do not fit, the temperature is not above 0, or a score is NaN.
    """
    _check(embedding1_SD, embedding2_SD, score_S, temperature)
    dims = (embedding1_SD.shape[1],) if matryoshka_dims is None else tuple(matryoshka_dims)
    weights = (1.0,) * len(dims) if matryoshka_weights is None else tuple(matryoshka_weights)
    dtype = torch.promote_types(embedding1_SD.dtype, torch.float32)
    cosine_KS = prefix_cosines(embedding1_SD.to(dtype), embedding2_SD.to(dtype), dims)
    one_level = _IMPLEMENTATIONS[implementation]
    losses = (
        weight * one_level(cosine_S, score_S, temperature) for weight, cosine_S in zip(weights, cosine_KS, strict=True)
    )
    return torch.stack(list(losses)).sum()


def _reference(cosine_S: Tensor, score_S: Tensor, temperature: float) -> Tensor:
    logit_S = cosine_S / temperature
    difference_SS = logit_S[None, :] - logit_S[:, None]
    ordered = difference_SS[score_S[:, None] > score_S[None, :]]
    return torch.cat([logit_S.new_zeros(1), ordered]).logsumexp(0)


def _running(cosine_S: Tensor, score_S: Tensor, temperature: float) -> Tensor:
    score_S, order_S = score_S.sort()
    logit_S = cosine_S[order_S] / temperature
    num_lower_S = torch.searchsorted(score_S, score_S)  # rows with a strictly lower score; ties share the number
    has_lower_S = num_lower_S > 0
    lower_lse = logit_S.logcumsumexp(0)[num_lower_S[has_lower_S] - 1]
    return torch.cat([logit_S.new_zeros(1), lower_lse - logit_S[has_lower_S]]).logsumexp(0)


_IMPLEMENTATIONS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "auto": _running,
    "chunked": _running,
    "reference": _reference,
}


def _check(embedding1_SD: Tensor, embedding2_SD: Tensor, score_S: Tensor, temperature: float) -> None:
    if embedding1_SD.ndim != 2 or embedding1_SD.shape != embedding2_SD.shape:
        shapes = f"{list(embedding1_SD.shape)} and {list(embedding2_SD.shape)}"
        raise ValueError(f"cosent: got embeddings of shape {shapes}, expected two equal [S, D]; pass one row per pair")
    if score_S.shape != embedding1_SD.shape[:1]:
        raise ValueError(
            f"cosent score_S: got shape {list(score_S.shape)}, expected [{len(embedding1_SD)}]; pass one score per pair"
        )
    if not temperature > 0:
        raise ValueError(f"cosent temperature: got {temperature}, expected a number above 0; raise cosent_temperature")
    if score_S.isnan().any():
        raise ValueError("cosent score_S: got NaN, expected numbers; remove those pairs")
