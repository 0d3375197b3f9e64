"""Turns the arguments of `info_nce` into a `Problem`, or raises an error that names the invalid argument."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import torch
from torch import Tensor

from fused_contrastive.checks import (
    Sizes,
    ValueChecks,
    check_rows,
    checked_denominator,
    checked_labels,
    checked_lists,
    checked_matryoshka,
    checked_ragged_lists,
    checked_rows,
    checked_temperature,
    checked_weights,
    describe,
    require,
)
from fused_contrastive.masks import repeated
from fused_contrastive.options import DocumentShard, Matryoshka, Negatives, Peers, Towers
from fused_contrastive.problem import Problem

_WORKSPACE_BYTES = {"cuda": 256 << 20}
_DEFAULT_WORKSPACE_BYTES = 32 << 20


def checked_problem(
    query_BD: Tensor,
    document_ND: Tensor,
    positive_B: Tensor | None = None,
    *,
    positive_BP: Tensor | None = None,
    temperature: float | Tensor,
    weight_B: Tensor | None = None,
    denominator: float | Tensor | None = None,
    matryoshka: Matryoshka | None = None,
    negatives: Negatives = Negatives(),
    towers: Towers = Towers(),
    peers: Peers | None = None,
    shard: DocumentShard | None = None,
    workspace_bytes: int | None = None,
) -> Problem:
    """Check every argument of `info_nce`, which explains them, and fill in the defaults.

    Raises:
        ValueError: see `info_nce`.
    """
    check_rows(query_BD, document_ND)
    _check_negatives(negatives)
    _check_towers(towers, negatives, peers)
    sizes = _sizes(query_BD, document_ND, peers, shard)
    fits = workspace_bytes is None or workspace_bytes > 0
    require(fits, "workspace_bytes", str(workspace_bytes), "a positive number")
    values = ValueChecks(sizes.device)
    dims, level_weights = checked_matryoshka(matryoshka, query_BD.shape[1])
    weight_B = checked_weights(weight_B, sizes, values)
    negatives = _checked_negatives(negatives, sizes, values)
    problem = Problem(
        query_BD=query_BD,
        document_ND=document_ND,
        positive_BP=_positives(positive_B, positive_BP, sizes, values),
        temperature_B=checked_temperature(temperature, sizes, values),
        normalized_weight_B=weight_B / checked_denominator(denominator, weight_B, values),
        dims=dims,
        level_weights=level_weights,
        **{field.name: getattr(negatives, field.name) for field in fields(Negatives)},
        symmetric=towers.symmetric,
        document_tower=towers.document_tower,
        workspace_bytes=workspace_bytes or _WORKSPACE_BYTES.get(sizes.device.type, _DEFAULT_WORKSPACE_BYTES),
        peers=peers,
        shard=shard,
        num_documents=sizes.num_documents,
    )
    values.run()
    return _with_queries_as_documents(problem) if towers.query_tower else problem


def _check_negatives(negatives: Negatives) -> None:
    scope, margin, hardness = negatives.scope, negatives.margin, negatives.hardness
    require(scope in ("all", "group", "own"), "negatives.scope", repr(scope), "'all', 'group' or 'own'")
    if scope == "group":
        for name, wanted in (("query_group_B", "a group per query"), ("document_group_N", "a group per document")):
            given = getattr(negatives, name) is not None
            require(given, f"negatives.{name}", "None", f"{wanted} with scope='group'")
    in_range = margin is None or math.isfinite(margin)
    require(in_range, "negatives.margin", str(margin), "None or a finite number")
    named = negatives.margin_dims in ("level", "full")
    require(named, "negatives.margin_dims", repr(negatives.margin_dims), "'level' or 'full'")
    in_range = hardness is None or 0 <= hardness < math.inf
    require(in_range, "negatives.hardness", str(hardness), "None or a finite number of at least 0")


def _checked_negatives(negatives: Negatives, sizes: Sizes, values: ValueChecks) -> Negatives:
    """A copy with int64 tensors. Lists without columns and a hardness without effect become None."""

    def lists(name: str) -> Tensor | None:
        return checked_lists(getattr(negatives, name), f"negatives.{name}", sizes, values)

    def labels(name: str, length: int) -> Tensor | None:
        return checked_labels(getattr(negatives, name), f"negatives.{name}", length, sizes)

    own_BM = lists("own_BM")
    return replace(
        negatives,
        own_BM=own_BM,
        excluded_BX=checked_ragged_lists(negatives.excluded_BX, "negatives.excluded_BX", sizes, values),
        query_row_B=checked_rows(negatives.query_row_B, "negatives.query_row_B", sizes, values),
        query_group_B=labels("query_group_B", sizes.num_queries),
        document_group_N=labels("document_group_N", sizes.num_documents),
        query_key_B=labels("query_key_B", sizes.num_queries),
        document_key_N=labels("document_key_N", sizes.num_documents),
        hardness=negatives.hardness if negatives.hardness and own_BM is not None else None,
    )


def _check_towers(towers: Towers, negatives: Negatives, peers: Peers | None) -> None:
    for name in ("query_tower", "document_tower"):
        fits = not getattr(towers, name) or negatives.scope != "own"
        require(fits, f"towers.{name}", "True with scope='own'", "False, or scope='all' or 'group' with it")
    if towers.query_tower:
        wanted = "None: towers.query_tower puts the queries among the documents itself"
        require(negatives.query_row_B is None, "negatives.query_row_B", "rows with towers.query_tower", wanted)
        alone = peers is None or peers.count == 1
        wanted = "False; put the queries of all peers into document_ND and name them by negatives.query_row_B"
        require(alone, "towers.query_tower", "True with several peers", wanted)


def _sizes(query_BD: Tensor, document_ND: Tensor, peers: Peers | None, shard: DocumentShard | None) -> Sizes:
    """The sizes of the problem. The number of documents is that of the whole table, also if there is a shard."""
    num_documents = len(document_ND)
    if shard is not None:
        _check_shard(shard, num_documents, peers)
        num_documents = shard.num_documents
    enough = num_documents > 0 or len(query_BD) == 0
    require(enough, "document_ND", describe(document_ND), "at least one row when there are queries")
    dtype = torch.float64 if query_BD.dtype == torch.float64 else torch.float32
    return Sizes(len(query_BD), num_documents, query_BD.device, dtype)


def _check_shard(shard: DocumentShard, num_given: int, peers: Peers | None) -> None:
    require(peers is not None, "peers", "None", "the other callers, with shard=")
    assert peers is not None
    last = shard.num_documents - num_given
    got = str(shard.num_documents)
    require(last >= 0, "shard.num_documents", got, f"at least the {num_given} rows of document_ND")
    complete = peers.count > 1 or last == 0
    require(complete, "shard.num_documents", got, f"the {num_given} rows of document_ND when there is one peer")
    in_range = 0 <= shard.first <= last
    require(in_range, "shard.first", str(shard.first), f"0 to {last} (num_documents less the rows given)")


def _positives(positive_B: Tensor | None, positive_BP: Tensor | None, sizes: Sizes, values: ValueChecks) -> Tensor:
    """[B, P]: the distinct positives of each query, -1 padded; from one or several positives per query."""
    given = positive_B is not None or positive_BP is not None
    require(given, "positive_B", "None", "a positive per query, or several as positive_BP=")
    if positive_B is not None:
        wanted = f"integers of shape [{sizes.num_queries}] on {sizes.device}; several per query go into positive_BP="
        require(positive_B.ndim == 1, "positive_B", describe(positive_B), wanted)
        positive_B = checked_rows(positive_B, "positive_B", sizes, values, lowest=0)
    if positive_BP is None:
        assert positive_B is not None
        return positive_B[:, None]
    listed_BP = checked_lists(positive_BP, "positive_BP", sizes, values)
    if listed_BP is None:
        listed_BP = positive_BP.new_full((sizes.num_queries, 1), -1, dtype=torch.int64)
    has_any_B = (listed_BP >= 0).any(1)
    values.require_each(has_any_B, "positive_BP", "no positive in row", "at least one in every row")
    if positive_B is not None:
        listed_B = (listed_BP == positive_B[:, None]).any(1)
        wanted = "positives that stand in the same row of positive_BP"
        values.require_each(listed_B, "positive_B", "another positive than positive_BP in row", wanted)
    return _distinct(listed_BP)


def _distinct(index_BP: Tensor) -> Tensor:
    """The distinct indices of each row, in their order, -1 padded."""
    dropped_BP = (index_BP < 0) | repeated(index_BP)
    order_BP = dropped_BP.byte().argsort(dim=1, stable=True)
    return index_BP.masked_fill(dropped_BP, -1).gather(1, order_BP)


def _with_queries_as_documents(problem: Problem) -> Problem:
    """Append the queries to the documents: query i becomes document N + i, with a unique key."""
    num_queries, num_documents = len(problem.query_BD), problem.num_documents
    query_row_B = torch.arange(num_queries, device=problem.query_BD.device) + num_documents
    group_N, key_N = problem.document_group_N, problem.document_key_N
    if group_N is not None:  # groups are not used if the queries have none
        group_N = None if problem.query_group_B is None else torch.cat([group_N, problem.query_group_B])
    if key_N is not None:  # renumbered from 0, so that documents' keys differ from the queries' keys, their rows
        key_N = torch.cat([key_N.unique(return_inverse=True)[1], query_row_B])
    return replace(
        problem,
        document_ND=torch.cat([problem.document_ND, problem.query_BD]),
        query_row_B=query_row_B,
        document_group_N=group_N,
        document_key_N=key_N,
        num_documents=num_documents + num_queries,
    )
