"""The loss `info_nce`: each query's positives against its negatives, computed by the fused kernel."""

from __future__ import annotations

import torch
from fused_contrastive import InfoNCEOutput, InfoNCEStats, Negatives, Peers, Towers, info_nce
from fused_contrastive import RaggedLists as DeviceRaggedLists
from torch import Tensor

from harness.losses.interface import (
    LossTerm,
    QuerySimilarities,
    StepShare,
    TaskLossSettings,
    embeddings_at,
    on_device_of,
)
from harness.losses.table import HeldPart
from harness.types import QueryPart, RaggedLists


def info_nce_term(task: TaskLossSettings, part: QueryPart, table_TD: Tensor, share: StepShare) -> LossTerm:
    """Per query, -log(e^(s_p / t) / (e^(s_p / t) + sum over its negatives n of e^(s_n / t))); s cosines, t temperature.

    See `fused_contrastive.info_nce` for several positives, Matryoshka levels and the options of `negatives`.
    """
    held = share.held(part)
    # Some tasks sum over the queries of all ranks or pass documents on, so a rank without queries joins, too.
    calls_peers = task.symmetric or held.shard is not None
    if held.queries.start == held.queries.stop and not calls_peers:
        return LossTerm.without_queries(table_TD, *part.negative_BM.shape)
    loss, stats = _info_nce(task, held, table_TD, share, share.peers if calls_peers else None)
    own_negative_BM = table_TD.new_zeros(part.negative_BM.shape)
    if stats.negative_similarity_BM is not None:
        assert stats.negative_kept_BM is not None
        queries = on_device_of(table_TD, held.query_order_B[held.queries])
        own_negative_BM[queries] = stats.negative_similarity_BM.masked_fill(~stats.negative_kept_BM, torch.nan)
    negative_B = _negative_similarity(stats)
    similarities = QuerySimilarities(
        positive=stats.positive_similarity_B.sum() / share.num_queries,
        negative=negative_B.nansum(),
        queries_with_negatives=(~negative_B.isnan()).sum().to(negative_B.dtype),
        false_negatives_masked=stats.masked_B.sum(),
        own_negative_BM=own_negative_BM,
    )
    return LossTerm(loss, stats.loss_B.sum() / len(part.query_B), similarities)


def _info_nce(
    task: TaskLossSettings, held: HeldPart, table_TD: Tensor, share: StepShare, peers: Peers | None
) -> InfoNCEOutput:
    """Call the kernel for a slice of the task's queries and all documents of the task, or the part that is at hand.

    `document_N` already holds exactly the documents of the recipe's negatives scope, because the plan has chosen them.
    """
    part, queries = held.part, held.queries
    query_BD = embeddings_at(table_TD, part.query_B[queries])
    return info_nce(
        query_BD,
        embeddings_at(table_TD, part.document_N[held.documents]),
        positive_BP=on_device_of(table_TD, part.positive_BP[queries]),
        temperature=share.query_temperature(task),
        weight_B=table_TD.new_full((len(query_BD),), task.weight),
        denominator=share.sum_of_query_weights,
        matryoshka=share.matryoshka,
        negatives=Negatives(
            scope="own" if part.own_negatives_only else "all",
            own_BM=on_device_of(table_TD, part.negative_BM[queries]),
            excluded_BX=_ragged_on_device_of(table_TD, part.excluded_BX[queries]),
            margin=task.margin,
            hardness=task.hardness,
        ),
        towers=Towers(symmetric=task.symmetric, document_tower=task.document_tower),
        peers=peers,
        shard=held.shard,
        implementation=share.config.implementation,
    )


def _ragged_on_device_of(table_TD: Tensor, lists: RaggedLists) -> DeviceRaggedLists:
    return DeviceRaggedLists(on_device_of(table_TD, lists.start_B1), on_device_of(table_TD, lists.value_E))


def _negative_similarity(stats: InfoNCEStats) -> Tensor:
    """[B]: mean cosine to the query's own negatives; without any, to the negatives in its denominator; else NaN.

    An own negative that a mask leaves out does not count.
    """
    mean_B = stats.mean_negative_similarity_B
    if stats.negative_similarity_BM is None:
        return mean_B
    assert stats.negative_kept_BM is not None
    own_BM = stats.negative_similarity_BM.masked_fill(~stats.negative_kept_BM, torch.nan)
    return own_BM.nanmean(1).where((~own_BM.isnan()).any(1), mean_B)
