"""CoSENT (Su 2022): a pair of texts with a higher score should have a higher similarity than a pair with a lower score.

Over all entries i, j with score_i > score_j, and with c = cosine / temperature:
    loss = log(1 + sum exp(c_j - c_i)) = log(1 + sum_i exp(-c_i) * sum_{j: score_j < score_i} exp(c_j))
Therefore one running log-sum-exp over the entries sorted by score replaces the E x E matrix: O(E log E).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from fused_contrastive.checks import check_pair_rows, checked_level_weights, checked_matryoshka, describe, require
from fused_contrastive.cosine import prefix_cosines
from fused_contrastive.options import Implementation, Matryoshka

_require = partial(require, function="cosent")


def cosent(
    embedding1_ED: Tensor,
    embedding2_ED: Tensor,
    score_E: Tensor,
    *,
    temperature: float,
    matryoshka: Matryoshka | None = None,
    implementation: Implementation = "auto",
) -> Tensor:
    """Scalar loss (at least float32): sum over levels of level weight * CoSENT on the cosines of the prefixes.

    Rows need no normalisation. Fewer than two distinct scores give 0 with zero gradients. Only the order of the scores
    matters. `reference` builds the E x E matrix; `chunked`, `triton` and `auto` are the same implementation, which does
    not build it.

    Raises:
        ValueError: an argument is invalid; the message has the argument, its value and the allowed values.
    """
    check_pair_rows(embedding1_ED, embedding2_ED, "cosent")
    dims, level_weights = checked_matryoshka(matryoshka, embedding1_ED.shape[1], "cosent")
    dtype = torch.promote_types(embedding1_ED.dtype, torch.float32)
    return cosent_of_similarities(
        prefix_cosines(embedding1_ED.to(dtype), embedding2_ED.to(dtype), dims),
        score_E,
        temperature=temperature,
        level_weights=level_weights,
        implementation=implementation,
    )


def cosent_of_similarities(
    similarity_KE: Tensor,
    score_E: Tensor,
    *,
    temperature: float,
    level_weights: Sequence[float] | None = None,
    implementation: Implementation = "auto",
) -> Tensor:
    """The loss of `cosent` from given similarities: one row per level, one column per pair.

    level_weights: one per row; None means 1 for each row.

    Raises:
        ValueError: see `cosent`.
    """
    _check_scores(similarity_KE, score_E, temperature, implementation)
    weights = checked_level_weights(level_weights, len(similarity_KE), "level_weights", "cosent")
    one_level = _IMPLEMENTATIONS[implementation]
    levels = zip(weights, similarity_KE, strict=True)
    return torch.stack(
        [weight * one_level(similarity_E, score_E, temperature) for weight, similarity_E in levels]
    ).sum()


def _reference(cosine_E: Tensor, score_E: Tensor, temperature: float) -> Tensor:
    logit_E = cosine_E / temperature
    difference_EE = logit_E[None, :] - logit_E[:, None]
    ordered = difference_EE[score_E[:, None] > score_E[None, :]]
    return torch.cat([logit_E.new_zeros(1), ordered]).logsumexp(0)


def _sorted(cosine_E: Tensor, score_E: Tensor, temperature: float) -> Tensor:
    score_E, order_E = score_E.sort()
    logit_E = cosine_E[order_E] / temperature
    num_lower_E = torch.searchsorted(score_E, score_E)  # number of entries with a strictly lower score
    has_lower_E = num_lower_E > 0
    lower_lse = logit_E.logcumsumexp(0)[num_lower_E[has_lower_E] - 1]
    return torch.cat([logit_E.new_zeros(1), lower_lse - logit_E[has_lower_E]]).logsumexp(0)


_IMPLEMENTATIONS: dict[str, Callable[[Tensor, Tensor, float], Tensor]] = {
    "auto": _sorted,
    "chunked": _sorted,
    "reference": _reference,
    "triton": _sorted,  # a custom kernel would not be faster, because the work is a sort and a running sum
}


def _check_scores(similarity_KE: Tensor, score_E: Tensor, temperature: float, implementation: str) -> None:
    fits = score_E.shape == similarity_KE.shape[1:] and score_E.device == similarity_KE.device
    _require(fits, "score_E", describe(score_E), f"one score per pair, [{similarity_KE.shape[1]}]")
    _require(not bool(score_E.isnan().any()), "score_E", "NaN", "numbers; remove those pairs")
    _require(temperature > 0, "temperature", str(temperature), "a number above 0")
    _require(implementation in _IMPLEMENTATIONS, "implementation", repr(implementation), str(list(_IMPLEMENTATIONS)))
