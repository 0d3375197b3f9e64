"""From the arguments of `info_nce` to a `Problem`, or one line that says which argument is wrong."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from fused_contrastive.checks import (
    ValueChecks,
    check_rows,
    checked_denominator,
    checked_dims,
    checked_index,
    checked_labels,
    checked_level_weights,
    checked_lists,
    checked_temperature,
    checked_weights,
    describe,
    require,
)
from fused_contrastive.masks import repeated
from fused_contrastive.problem import Peers, Problem, Scope

SameTower = Literal["query", "document", "both"]
_WORKSPACE_BYTES = {"cuda": 256 << 20}
_DEFAULT_WORKSPACE_BYTES = 32 << 20


def checked_problem(
    query_BD: Tensor,
    document_ND: Tensor,
    positive_B: Tensor | None,
    *,
    positive_BP: Tensor | None,
    temperature: float | Tensor,
    matryoshka_dims: Sequence[int] | None,
    matryoshka_weights: Sequence[float] | None,
    weight_B: Tensor | None,
    negative_BM: Tensor | None,
    excluded_BX: Tensor | None,
    query_row_B: Tensor | None,
    scope: Scope,
    query_group_B: Tensor | None,
    document_group_N: Tensor | None,
    query_key_B: Tensor | None,
    document_key_N: Tensor | None,
    margin: float | None,
    margin_dims: Literal["level", "full"],
    hardness: float | None,
    symmetric: bool,
    same_tower: SameTower | None,
    denominator: float | Tensor | None,
    workspace_bytes: int | None,
    peers: Peers | None,
    first_document: int | None,
    num_documents: int | None,
) -> Problem:
    """Check every argument of `info_nce` (meaning there) and fill in the defaults.

    Raises:
        ValueError: see `info_nce`.
    """
    check_rows(query_BD, document_ND)
    num_queries, device = len(query_BD), query_BD.device
    dtype = torch.float64 if query_BD.dtype == torch.float64 else torch.float32
    values = ValueChecks(device)
    _check_choices(scope, query_group_B, document_group_N, margin, margin_dims, workspace_bytes)
    in_range = hardness is None or 0 <= hardness < math.inf
    require(in_range, "hardness", str(hardness), "None or a finite number of at least 0")
    _check_same_tower(same_tower, scope, query_row_B, peers)
    num_documents = _table_length(len(document_ND), peers, first_document, num_documents)
    enough = num_documents > 0 or num_queries == 0
    require(enough, "document_ND", describe(document_ND), "at least one row when there are queries")
    dims = checked_dims(matryoshka_dims, query_BD.shape[1])
    negative_BM = checked_lists(negative_BM, "negative_BM", num_queries, device, num_documents, values)
    weight_B = checked_weights(weight_B, num_queries, dtype, device, values)
    problem = Problem(
        query_BD=query_BD,
        document_ND=document_ND,
        positive_BP=_positives(positive_B, positive_BP, num_queries, device, num_documents, values),
        temperature_B=checked_temperature(temperature, num_queries, dtype, device, values),
        share_B=weight_B / checked_denominator(denominator, weight_B, values),
        dims=dims,
        level_weights=checked_level_weights(matryoshka_weights, len(dims)),
        negative_BM=negative_BM,
        excluded_BX=checked_lists(excluded_BX, "excluded_BX", num_queries, device, num_documents, values),
        query_row_B=None
        if query_row_B is None
        else checked_index(query_row_B, "query_row_B", (num_queries,), device, num_documents, -1, values),
        scope=scope,
        query_group_B=checked_labels(query_group_B, "query_group_B", num_queries, device),
        document_group_N=checked_labels(document_group_N, "document_group_N", num_documents, device),
        query_key_B=checked_labels(query_key_B, "query_key_B", num_queries, device),
        document_key_N=checked_labels(document_key_N, "document_key_N", num_documents, device),
        margin=margin,
        margin_dims=margin_dims,
        hardness=hardness if hardness and negative_BM is not None else None,
        symmetric=symmetric,
        document_tower=same_tower in ("document", "both"),
        workspace_bytes=workspace_bytes or _WORKSPACE_BYTES.get(device.type, _DEFAULT_WORKSPACE_BYTES),
        peers=peers,
        first_document=first_document,
        num_documents=num_documents,
    )
    values.run()
    return _with_queries_as_documents(problem) if same_tower in ("query", "both") else problem


def _check_choices(
    scope: Scope,
    query_group_B: Tensor | None,
    document_group_N: Tensor | None,
    margin: float | None,
    margin_dims: Literal["level", "full"],
    workspace_bytes: int | None,
) -> None:
    require(scope in ("own", "task", "step"), "scope", repr(scope), "'own', 'task' or 'step'")
    if scope == "task":
        require(query_group_B is not None, "query_group_B", "None", "a group per query with scope='task'")
        require(document_group_N is not None, "document_group_N", "None", "a group per document with scope='task'")
    require(margin is None or math.isfinite(margin), "false_negative_margin", str(margin), "None or a finite number")
    known = margin_dims in ("level", "full")
    require(known, "false_negative_margin_dims", repr(margin_dims), "'level' or 'full'")
    fits = workspace_bytes is None or workspace_bytes > 0
    require(fits, "workspace_bytes", str(workspace_bytes), "a positive number")


def _check_same_tower(
    same_tower: SameTower | None, scope: Scope, query_row_B: Tensor | None, peers: Peers | None
) -> None:
    known = same_tower in (None, "query", "document", "both")
    require(known, "same_tower", repr(same_tower), "None, 'query', 'document' or 'both'")
    if same_tower is not None:
        require(scope != "own", "same_tower", f"{same_tower!r} with scope='own'", "scope='step' or 'task' with it")
    if same_tower in ("query", "both"):
        wanted = "None: same_tower puts the queries among the documents itself"
        require(query_row_B is None, "query_row_B", f"rows with same_tower={same_tower!r}", wanted)
        alone = peers is None or peers.count == 1
        wanted = "the queries of all peers in document_ND, named by query_row_B= (and same_tower='document' for 'both')"
        require(alone, "same_tower", f"{same_tower!r} with several peers", wanted)


def _table_length(num_given: int, peers: Peers | None, first_document: int | None, num_documents: int | None) -> int:
    """Documents of the whole table: those given, or with a ring what the caller says."""
    if first_document is None and num_documents is None:
        return num_given
    require(first_document is not None, "first_document", "None", "a row with num_documents: a ring needs both")
    require(num_documents is not None, "num_documents", "None", "a number with first_document: a ring needs both")
    require(peers is not None, "peers", "None", "the other callers with first_document and num_documents (a ring)")
    assert first_document is not None
    assert num_documents is not None
    assert peers is not None
    last = num_documents - num_given
    require(last >= 0, "num_documents", str(num_documents), f"at least the {num_given} rows of document_ND")
    whole = peers.count > 1 or last == 0
    require(whole, "num_documents", str(num_documents), f"the {num_given} rows of document_ND when there is one peer")
    in_range = 0 <= first_document <= last
    require(in_range, "first_document", str(first_document), f"0 to {last} (num_documents less the rows given)")
    return num_documents


def _positives(
    positive_B: Tensor | None,
    positive_BP: Tensor | None,
    num_queries: int,
    device: torch.device,
    num_documents: int,
    values: ValueChecks,
) -> Tensor:
    """[B, P]: each positive of a query once, then -1; from one or several positives per query."""
    given = positive_B is not None or positive_BP is not None
    require(given, "positive_B", "None", "a positive per query, or several as positive_BP=")
    if positive_B is not None:
        wanted = f"integers of shape [{num_queries}] on {device}; several per query go into positive_BP="
        require(positive_B.ndim == 1, "positive_B", describe(positive_B), wanted)
        positive_B = checked_index(positive_B, "positive_B", (num_queries,), device, num_documents, 0, values)
    if positive_BP is None:
        assert positive_B is not None
        return positive_B[:, None]
    listed_BP = checked_lists(positive_BP, "positive_BP", num_queries, device, num_documents, values)
    if listed_BP is None:
        listed_BP = positive_BP.new_full((num_queries, 1), -1, dtype=torch.int64)
    has_any_B = (listed_BP >= 0).any(1)
    values.require_each(has_any_B, "positive_BP", "no positive in row", "at least one in every row")
    if positive_B is not None:
        listed_B = (listed_BP == positive_B[:, None]).any(1)
        wanted = "positives that stand in the same row of positive_BP"
        values.require_each(listed_B, "positive_B", "another positive than positive_BP in row", wanted)
    return _distinct(listed_BP)


def _distinct(index_BP: Tensor) -> Tensor:
    """Each index of a row once, in the order given, then -1."""
    dropped_BP = (index_BP < 0) | repeated(index_BP)
    order_BP = dropped_BP.byte().argsort(dim=1, stable=True)
    return index_BP.masked_fill(dropped_BP, -1).gather(1, order_BP)


def _with_queries_as_documents(problem: Problem) -> Problem:
    """The query of row i becomes document N + i, equal by key to no other document."""
    num_queries, num_documents = len(problem.query_BD), problem.num_documents
    query_row_B = torch.arange(num_queries, device=problem.query_BD.device) + num_documents
    group_N, key_N = problem.document_group_N, problem.document_key_N
    if group_N is not None:  # without groups of the queries none are compared
        group_N = None if problem.query_group_B is None else torch.cat([group_N, problem.query_group_B])
    if key_N is not None:  # dense numbers stay below the queries' rows
        key_N = torch.cat([key_N.unique(return_inverse=True)[1], query_row_B])
    return replace(
        problem,
        document_ND=torch.cat([problem.document_ND, problem.query_BD]),
        query_row_B=query_row_B,
        document_group_N=group_N,
        document_key_N=key_N,
        num_documents=num_documents + num_queries,
    )
