"""Random inputs of `info_nce` with any set of features, and its formula as loops over Python sets."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import torch
from fused_contrastive import InfoNCEOutput, InfoNCEStats, Matryoshka, Negatives, RaggedLists, Towers, info_nce
from torch import Tensor

LEAVES = ("query_BD", "document_ND", "temperature")
FEATURES = (
    "own",
    "excluded",
    "query_key",
    "document_key",
    "margin",
    "margin_full",
    "hardness",
    "weights",
    "denominator",
    "temperatures",
    "levels",
    "short_levels",
    "positives",
    "query_row",
    "symmetric",
    "query_tower",
    "document_tower",
)


@dataclass
class Case:
    """Arguments of `info_nce` in float64: name → value. The fields of its option objects stand beside its arguments."""

    arguments: dict[str, Any]

    def run(
        self, implementation: str, dtype: torch.dtype = torch.float64, **changes: Any
    ) -> tuple[InfoNCEOutput, tuple[Tensor, ...]]:
        """Return the output, and 1.5 times the gradients by query, document and temperature (if it is a tensor).

        dtype: of the rows. `triton` takes float32 and float16; on a CPU it runs in its interpreter.
        """
        arguments = self.arguments | changes
        leaves = {}
        for name, value in arguments.items():
            if name in LEAVES and isinstance(value, Tensor):
                leaf_dtype = torch.promote_types(dtype, torch.float32) if name == "temperature" else dtype
                leaves[name] = value.detach().to(leaf_dtype, copy=True).requires_grad_()
        output = info_nce(**grouped(arguments | leaves), implementation=implementation)
        return output, torch.autograd.grad(1.5 * output.loss, list(leaves.values()))


def grouped(arguments: dict[str, Any]) -> dict[str, Any]:
    """Put the arguments that are fields of `Matryoshka`, `Negatives` or `Towers` into objects of these classes."""
    grouped = dict(arguments)

    def take(names: Iterable[str]) -> dict[str, Any]:
        return {name: grouped.pop(name) for name in names if name in grouped}

    levels = take(("matryoshka_dims", "matryoshka_weights"))
    if levels:
        grouped["matryoshka"] = Matryoshka(levels["matryoshka_dims"], levels.get("matryoshka_weights"))
    grouped["negatives"] = Negatives(**take(field.name for field in fields(Negatives)))
    grouped["towers"] = Towers(**take(field.name for field in fields(Towers)))
    return grouped


def make_case(
    features: set[str],
    scope: str = "all",
    num_queries: int = 7,
    num_documents: int = 17,
    width: int = 12,
    seed: int = 0,
) -> Case:
    """Make a case with few keys and groups and short lists, so that a rule applies to some queries and not to others.

    Of features that exclude each other one is left out: towers with scope `own`, `query_row` with `query_tower`.
    """
    generator = torch.Generator().manual_seed(seed)

    def random_integers(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=generator)

    def random_floats(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, dtype=torch.float64)

    arguments: dict[str, Any] = {
        "query_BD": random_floats(num_queries, width) - 0.4,
        "document_ND": 3 * (random_floats(num_documents, width) - 0.4),
        "positive_B": random_integers(0, num_documents, num_queries),
        "temperature": random_floats(num_queries) + 0.05 if "temperatures" in features else 0.1,
        "scope": scope,
    }
    if scope == "group":
        arguments |= {
            "query_group_B": random_integers(0, 2, num_queries),
            "document_group_N": random_integers(0, 2, num_documents),
        }
    if "own" in features:
        arguments["own_BM"] = random_integers(-1, num_documents, num_queries, 5)
    if "excluded" in features:
        arguments["excluded_BX"] = RaggedLists.of_padded(random_integers(-1, num_documents, num_queries, 3))
    if "query_key" in features:
        arguments["query_key_B"] = random_integers(0, 1 + num_queries // 3, num_queries)
    if "document_key" in features:
        arguments["document_key_N"] = random_integers(0, 1 + num_documents // 2, num_documents)
    if features & {"margin", "margin_full"}:
        arguments["margin"] = 0.05
    if "margin_full" in features:
        arguments["margin_dims"] = "full"
    if "hardness" in features:
        arguments["hardness"] = 3.0
    if "weights" in features:
        arguments["weight_B"] = random_floats(num_queries)
    if "denominator" in features:
        arguments["denominator"] = 5.5
    if "levels" in features:
        last = max(1, width - 1 if "short_levels" in features else width)
        dims = sorted({max(1, width // 4), max(1, width // 2), last})
        arguments |= {"matryoshka_dims": dims, "matryoshka_weights": [1.0, 0.25, 2.0][: len(dims)]}
    if "positives" in features:  # a third is padding, one is listed twice, and some belong to several queries
        first_B1, second_B1 = random_integers(-num_documents // 2, num_documents, 2, num_queries, 1).clamp_min(-1)
        sure_B1 = arguments.pop("positive_B")[:, None]
        arguments["positive_BP"] = torch.cat([first_B1, second_B1, sure_B1, first_B1], dim=1)
    if "query_row" in features and "query_tower" not in features:
        arguments["query_row_B"] = random_integers(-1, num_documents, num_queries)
    if "symmetric" in features:
        arguments["symmetric"] = True
    arguments |= {tower: True for tower in ("query_tower", "document_tower") if tower in features and scope != "own"}
    return Case(arguments)


def loss_by_loops(case: Case) -> tuple[float, InfoNCEStats]:
    """Compute the loss and the statistics directly from their definitions."""
    a = _with_queries_as_documents(case.arguments)
    query, num_queries = a["query_BD"].tolist(), len(a["query_BD"])
    document, positives = a["document_ND"].tolist(), _positives(a)
    temperature = torch.as_tensor(a["temperature"], dtype=torch.float64).expand(num_queries).tolist()
    dims = a.get("matryoshka_dims") or [len(query[0])]
    level_weights = a.get("matryoshka_weights") or [1.0] * len(dims)
    pairs = [(o, p) for o in range(num_queries) for p in sorted(positives[o])]
    loss, lse = [0.0] * num_queries, []
    for dim, level_weight in zip(dims, level_weights, strict=True):
        margin_dim = dims[-1] if a.get("margin_dims") == "full" else dim
        kept = [_negatives(a, i, query[i], margin_dim) for i in range(num_queries)]
        lse.append([0.0] * num_queries)
        for i, p in pairs:
            own = math.exp(_cosine(query[i][:dim], document[p][:dim]) / temperature[i])
            row = sum(_row_term(a, i, j, _cosine(query[i][:dim], document[j][:dim]), temperature[i]) for j in kept[i])
            lse[-1][i] += math.log(own + row) / len(positives[i])
            if a.get("document_tower"):
                tower = _negatives(a, i, document[p], margin_dim)
                row += sum(math.exp(_cosine(document[p][:dim], document[j][:dim]) / temperature[i]) for j in tower)
            term = math.log((own + row) / own)
            if a.get("symmetric"):
                others = [o for o in range(num_queries) if p in kept[o]]
                column = sum(math.exp(_cosine(query[o][:dim], document[p][:dim]) / temperature[o]) for o in others)
                term = (term + math.log((own + column) / own)) / 2
            loss[i] += level_weight * term / len(positives[i])
    weights = a["weight_B"].tolist() if "weight_B" in a else [1.0] * num_queries
    total = sum(weight * value for weight, value in zip(weights, loss, strict=True))
    return total / a.get("denominator", sum(weights)), _stats_by_loops(a, dims[-1], kept, loss, lse)


def _row_term(a: dict[str, Any], i: int, j: int, cosine: float, temperature: float) -> float:
    """The term of negative j in the denominator of query i."""
    weighted = "hardness" in a and "own_BM" in a and j in a["own_BM"][i].tolist()
    return math.exp(cosine / temperature + (a["hardness"] * cosine if weighted else 0.0))


def _stats_by_loops(
    a: dict[str, Any], dim: int, kept: list[set[int]], loss: list[float], lse: list[list[float]]
) -> InfoNCEStats:
    """Compute the statistics. kept: each query's negatives at the last level."""
    query, document, positives = a["query_BD"][:, :dim].tolist(), a["document_ND"][:, :dim].tolist(), _positives(a)
    cosine = [[_cosine(row, other) for other in document] for row in query]
    of_positives = [[cosine[i][p] for p in sorted(positives[i])] for i in range(len(query))]
    of_kept = [[cosine[i][j] for j in sorted(kept[i])] for i in range(len(query))]
    own = a.get("own_BM")
    return InfoNCEStats(
        positive_similarity_B=_float64([_mean(values) for values in of_positives]),
        negative_similarity_BM=None
        if own is None
        else _float64([[cosine[i][j] if j >= 0 else math.nan for j in own[i].tolist()] for i in range(len(query))]),
        negative_kept_BM=None
        if own is None
        else torch.tensor([[j in kept[i] for j in own[i].tolist()] for i in range(len(query))]).reshape(own.shape),
        lse_KB=_float64(lse),
        loss_B=_float64(loss),
        correct_B=torch.tensor([max(of_positives[i]) > max(of_kept[i], default=-2) + 1e-12 for i in range(len(query))]),
        masked_B=torch.tensor([len(_candidates(a, i) - kept[i]) for i in range(len(query))]),
        mean_negative_similarity_B=_float64([_mean(values) for values in of_kept]),
    )


def _with_queries_as_documents(a: dict[str, Any]) -> dict[str, Any]:
    if not a.get("query_tower"):
        return a
    num_queries, num_documents = len(a["query_BD"]), len(a["document_ND"])
    changes = {
        "document_ND": torch.cat([a["document_ND"], a["query_BD"]]),
        "query_row_B": num_documents + torch.arange(num_queries),
    }
    if "document_group_N" in a:
        changes["document_group_N"] = torch.cat([a["document_group_N"], a["query_group_B"]])
    if "document_key_N" in a:
        changes["document_key_N"] = torch.cat([a["document_key_N"], 1000 + torch.arange(num_queries)])
    return a | changes


def _positives(a: dict[str, Any]) -> list[set[int]]:
    listed = a["positive_BP"] if "positive_BP" in a else a["positive_B"][:, None]
    return [set(row) - {-1} for row in listed.tolist()]


def _candidates(a: dict[str, Any], i: int) -> set[int]:
    all_documents = set(range(len(a["document_ND"])))
    own = set(a["own_BM"][i].tolist()) - {-1} if "own_BM" in a else set()
    in_scope = {"own": set(), "all": all_documents}.get(a["scope"])
    if in_scope is None:
        in_scope = {j for j in all_documents if a["document_group_N"][j] == a["query_group_B"][i]}
    return (own | in_scope) - _positives(a)[i]


def _negatives(a: dict[str, Any], i: int, row: list[float], margin_dim: int) -> set[int]:
    """The candidates of query i that no rule drops. row: the query's embedding, for the margin rule."""
    positives = _positives(a)
    itself = [{row} for row in a["query_row_B"].tolist()] if "query_row_B" in a else [set()] * len(positives)
    positives_and_itself = [positives[o] | itself[o] for o in range(len(positives))]
    kept = _candidates(a, i) - positives_and_itself[i]
    if "excluded_BX" in a:
        start, stop = a["excluded_BX"].start_B1[i : i + 2].tolist()
        kept = kept - set(a["excluded_BX"].index_E[start:stop].tolist())
    if "document_key_N" in a:
        kept = {j for j in kept if all(a["document_key_N"][j] != a["document_key_N"][p] for p in positives[i])}
    if "query_key_B" in a:
        equal = [o for o in range(len(positives)) if a["query_key_B"][o] == a["query_key_B"][i]]
        kept = kept - set().union(*(positives_and_itself[o] for o in equal))
    if "margin" in a:
        document, query = a["document_ND"][:, :margin_dim].tolist(), a["query_BD"][i, :margin_dim].tolist()
        highest = min(_cosine(query, document[p]) for p in positives[i]) + a["margin"]
        kept = {j for j in kept if _cosine(row[:margin_dim], document[j]) <= highest + 1e-13}
    return kept


def _cosine(left: list[float], right: list[float]) -> float:
    norms = math.sqrt(sum(x * x for x in left) * sum(x * x for x in right))
    return sum(x * y for x, y in zip(left, right, strict=True)) / norms if norms else 0.0


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _float64(values: list[Any]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def assert_equal_outputs(
    left: tuple[InfoNCEOutput, tuple[Tensor, ...]], right: tuple[InfoNCEOutput, tuple[Tensor, ...]], tolerance: float
) -> None:
    """Compare loss, gradients and every statistic."""
    torch.testing.assert_close(left[0].loss, right[0].loss, rtol=tolerance, atol=tolerance)
    for one, other in zip(left[1], right[1], strict=True):
        torch.testing.assert_close(one, other, rtol=tolerance, atol=tolerance)
    assert_equal_stats(left[0].stats, right[0].stats, tolerance)


def assert_equal_stats(left: InfoNCEStats, right: InfoNCEStats, tolerance: float) -> None:
    """Compare every statistic; NaN equals NaN."""
    for field in fields(left):
        one, other = getattr(left, field.name), getattr(right, field.name)
        if one is None or other is None:
            assert one is other, field.name
        else:
            torch.testing.assert_close(
                one,
                other,
                rtol=tolerance,
                atol=tolerance,
                equal_nan=True,
                msg=lambda text, name=field.name: f"{name}: {text}",
            )
