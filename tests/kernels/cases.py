"""Random inputs of `info_nce` with every feature switched on or off, and the formula as loops over Python sets."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from fused_contrastive import InfoNCEOutput, info_nce
from torch import Tensor

LEAVES = ("query_BD", "document_ND", "temperature")
FEATURES = (
    "own",
    "excluded",
    "query_key",
    "document_key",
    "margin",
    "weights",
    "denominator",
    "temperatures",
    "levels",
    "short_levels",
)


@dataclass
class Case:
    """Arguments of `info_nce` by name, in float64."""

    arguments: dict[str, Any]

    def run(
        self, implementation: str, dtype: torch.dtype = torch.float64, **changes: Any
    ) -> tuple[InfoNCEOutput, tuple[Tensor, ...]]:
        """The output and the gradients by query, document and temperature (if it is a tensor), times 1.5."""
        arguments = self.arguments | changes
        leaves = {}
        for name, value in arguments.items():
            if name in LEAVES and isinstance(value, Tensor):
                leaves[name] = value.detach().to(dtype, copy=True).requires_grad_()
        output = info_nce(**(arguments | leaves), implementation=implementation)
        return output, torch.autograd.grad(1.5 * output.loss, list(leaves.values()))


def make_case(
    features: set[str],
    scope: str = "step",
    num_queries: int = 7,
    num_documents: int = 17,
    width: int = 12,
    seed: int = 0,
) -> Case:
    """Few keys and groups and short lists, so that every rule hits some query and spares another."""
    generator = torch.Generator().manual_seed(seed)

    def whole(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator)

    def real(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    arguments: dict[str, Any] = {
        "query_BD": real(num_queries, width) - 0.4,
        "document_ND": 3 * (real(num_documents, width) - 0.4),
        "positive_B": whole(0, num_documents, num_queries),
        "temperature": real(num_queries) + 0.05 if "temperatures" in features else 0.1,
        "scope": scope,
    }
    if scope == "task":
        arguments |= {"query_group_B": whole(0, 2, num_queries), "document_group_N": whole(0, 2, num_documents)}
    if "own" in features:
        arguments["negative_BM"] = whole(-1, num_documents, num_queries, 5)
    if "excluded" in features:
        arguments["excluded_BX"] = whole(-1, num_documents, num_queries, 3)
    if "query_key" in features:
        arguments["query_key_B"] = whole(0, 1 + num_queries // 2, num_queries)
    if "document_key" in features:
        arguments["document_key_N"] = whole(0, 1 + num_documents // 2, num_documents)
    if "margin" in features:
        arguments["false_negative_margin"] = 0.05
    if "weights" in features:
        arguments["weight_B"] = real(num_queries)
    if "denominator" in features:
        arguments["denominator"] = 5.5
    if "levels" in features:
        last = max(1, width - 1 if "short_levels" in features else width)
        dims = sorted({max(1, width // 4), max(1, width // 2), last})
        arguments |= {"matryoshka_dims": dims, "matryoshka_weights": [1.0, 0.25, 2.0][: len(dims)]}
    return Case(arguments)


def loss_by_loops(case: Case) -> tuple[float, list[int]]:
    """The loss, and per query the number of documents in the last level's denominator, from the definition alone."""
    a = case.arguments
    query, document, positive = a["query_BD"].tolist(), a["document_ND"].tolist(), a["positive_B"].tolist()
    weights = a["weight_B"].tolist() if "weight_B" in a else [1.0] * len(query)
    dims = a.get("matryoshka_dims") or [len(query[0])]
    level_weights = a.get("matryoshka_weights") or [1.0] * len(dims)
    total, sizes = 0.0, []
    for i, row in enumerate(query):
        temperature = a["temperature"] if isinstance(a["temperature"], float) else float(a["temperature"][i])
        for dim, level_weight in zip(dims, level_weights, strict=True):
            similarity = [_cosine(row[:dim], other[:dim]) for other in document]
            kept = _negatives(a, i)
            if "false_negative_margin" in a:
                kept = {j for j in kept if similarity[j] <= similarity[positive[i]] + a["false_negative_margin"]}
            terms = [math.exp(similarity[j] / temperature) for j in sorted(kept | {positive[i]})]
            loss = math.log(sum(terms)) - similarity[positive[i]] / temperature
            total += weights[i] * level_weight * loss
        sizes.append(len(terms))
    return total / a.get("denominator", sum(weights)), sizes


def _negatives(a: dict[str, Any], i: int) -> set[int]:
    positive = a["positive_B"].tolist()
    everything = set(range(len(a["document_ND"])))
    own = set(a["negative_BM"][i].tolist()) - {-1} if "negative_BM" in a else set()
    if a["scope"] == "own":
        kept = own
    elif a["scope"] == "task":
        kept = own | {j for j in everything if a["document_group_N"][j] == a["query_group_B"][i]}
    else:
        kept = everything
    kept = kept - {positive[i]}
    if "excluded_BX" in a:
        kept = kept - set(a["excluded_BX"][i].tolist())
    if "document_key_N" in a:
        kept = {j for j in kept if a["document_key_N"][j] != a["document_key_N"][positive[i]]}
    if "query_key_B" in a:
        kept = kept - {positive[o] for o in range(len(positive)) if a["query_key_B"][o] == a["query_key_B"][i]}
    return kept


def _cosine(left: list[float], right: list[float]) -> float:
    norms = math.sqrt(sum(x * x for x in left) * sum(x * x for x in right))
    return sum(x * y for x, y in zip(left, right, strict=True)) / norms if norms else 0.0


def assert_equal_outputs(
    left: tuple[InfoNCEOutput, tuple[Tensor, ...]], right: tuple[InfoNCEOutput, tuple[Tensor, ...]], tolerance: float
) -> None:
    """Loss, gradients and every statistic."""
    torch.testing.assert_close(left[0].loss, right[0].loss, rtol=tolerance, atol=tolerance)
    for one, other in zip(left[1], right[1], strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    for field in fields(left[0].stats):
        one, other = getattr(left[0].stats, field.name), getattr(right[0].stats, field.name)
        if one is None or other is None:
            assert one is other, field.name
        else:
            torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance, equal_nan=True)
