"""Where the own negatives of a step's queries stand among the step's other documents.

The kernels never hold a query's similarities to all documents, so they are compared with `MOST_COMPARED` documents at
most, evenly spaced among those that the loss compares the query with: B x 256 cosines, of embeddings that the step has
computed. Each rank compares the queries that it has encoded. Suffix C: the documents compared with.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from harness import comm
from harness.engine.step import Step
from harness.mining.judging.slots import Standing
from harness.types import QueryPart

MOST_COMPARED = 256  # documents per query; more would make the quantile finer than 1/256, which no rule needs
_ROWS_AT_A_TIME = 4096  # so that neither cosines nor gathered embeddings need much memory


def standings(
    step: Step,
    embeddings: Sequence[Tensor],
    own_similarity: Mapping[str, np.ndarray],
    tasks: Collection[str],
    num_dims: int | None = None,
) -> dict[str, Standing]:
    """The standing of the negatives of each of these tasks in the step. Every rank must call it; all get the same.

    embeddings: [texts, D] of each micro-batch of this rank. own_similarity: see `engine.phases.Scores`. num_dims: the
    dimensions that own_similarity compares; None: all.
    """
    units = _UnitRows(step, embeddings, num_dims)
    parts = [part for part in step.plan.parts if isinstance(part, QueryPart) and part.task in tasks]
    return {part.task: _standing(part, own_similarity[part.task], units) for part in parts}


def compared_documents(num_documents: int) -> np.ndarray:
    """The positions of the documents to compare with: all, or evenly spaced ones."""
    if num_documents <= MOST_COMPARED:
        return np.arange(num_documents)
    return np.arange(MOST_COMPARED) * num_documents // MOST_COMPARED


def is_other_document(part: QueryPart, position_C: np.ndarray) -> np.ndarray:
    """Bool [B, C]: the document is neither a positive of the query, known or used, nor one of its own negatives."""
    column_N = np.full(len(part.document_N) + 1, len(position_C))  # the last column takes what is not compared
    column_N[position_C] = np.arange(len(position_C))
    is_other_BC = np.ones((len(part.query_B), len(position_C) + 1), dtype=bool)
    owner_B1 = np.arange(len(part.query_B))[:, None]
    for place_BX in (part.positive_BP, part.negative_BM):
        is_other_BC[owner_B1, column_N[place_BX]] = False  # -1, which is padding, has the last column, too
    owner_E, document_E = part.excluded_pairs()
    is_other_BC[owner_E, column_N[document_E]] = False
    return is_other_BC[:, :-1]


def stand(similarity_BC: Tensor, is_other_BC: Tensor, own_BM: Tensor, positive_B: Tensor) -> tuple[Tensor, Tensor]:
    """`Standing` by the order of similarities, float64 [B, M] each: the quantiles, and 1 where above the positive.

    A document that is as similar as the negative counts a half. own_BM: NaN where the loss has left the negative out.
    """
    sorted_BC = similarity_BC.masked_fill(~is_other_BC, torch.inf).sort(1).values
    own_BM = own_BM.contiguous()
    less_BM, not_more_BM = (torch.searchsorted(sorted_BC, own_BM, side=side) for side in ("left", "right"))
    quantile_BM = (less_BM + not_more_BM).double() / (2 * is_other_BC.sum(1, keepdim=True))
    is_above_BM = own_BM.isnan() | (own_BM > positive_B[:, None])
    return quantile_BM.masked_fill(own_BM.isnan(), torch.nan), is_above_BM.double()


def _standing(part: QueryPart, own_similarity_BM: np.ndarray, units: _UnitRows) -> Standing:
    position_C = compared_documents(len(part.document_N))
    document_CD = units.gathered(part.document_N[position_C])
    device, dtype = document_CD.device, document_CD.dtype
    is_other_BC, lowest_positive_B = is_other_document(part, position_C), _lowest_positive(part, units)
    own_BM = torch.tensor(own_similarity_BM, dtype=dtype, device=device)
    found_2BM = own_BM.new_zeros((2, *own_BM.shape), dtype=torch.float64)
    for query_Q in _blocks(np.flatnonzero(units.is_held(part.query_B))):
        row_Q, is_other_QC = (torch.from_numpy(array).to(device) for array in (query_Q, is_other_BC[query_Q]))
        similarity_QC = units.held(part.query_B[query_Q]) @ document_CD.T
        found_2BM[:, row_Q] = torch.stack(stand(similarity_QC, is_other_QC, own_BM[row_Q], lowest_positive_B[row_Q]))
    quantile_BM, is_above_BM = comm.all_reduce_sum(found_2BM).cpu().numpy()  # 0 on ranks without the query
    return Standing(quantile_BM, (is_above_BM > 0) & (part.negative_BM >= 0))


def _lowest_positive(part: QueryPart, units: _UnitRows) -> Tensor:
    """[B]: the similarity of each query that this rank has encoded to its lowest positive; inf for the others."""
    owner_E, column_E = np.nonzero(part.positive_BP >= 0)
    document_E = part.document_N[part.positive_BP[owner_E, column_E]]
    is_held_B = units.is_held(part.query_B)
    lowest_B = units.local_RD.new_full(is_held_B.shape, torch.inf)
    for entry_E in _blocks(np.arange(len(owner_E))):
        document_ED = units.gathered(document_E[entry_E])
        held = np.flatnonzero(is_held_B[owner_E[entry_E]])
        owner = torch.from_numpy(owner_E[entry_E][held]).to(lowest_B.device)
        query_ED = units.held(part.query_B[owner_E[entry_E][held]])
        similarity_E = (query_ED * document_ED[torch.from_numpy(held).to(lowest_B.device)]).sum(1)
        lowest_B.scatter_reduce_(0, owner, similarity_E, "amin")
    return lowest_B


def _blocks(index: np.ndarray) -> list[np.ndarray]:
    return np.split(index, range(_ROWS_AT_A_TIME, len(index), _ROWS_AT_A_TIME)) if len(index) else []


class _UnitRows:
    """The embeddings of a step as unit vectors. Every rank holds those of the texts that it has encoded."""

    def __init__(self, step: Step, embeddings: Sequence[Tensor], num_dims: int | None) -> None:
        counts = step.texts_per_batch
        own = [embedding.detach()[:count] for embedding, count in zip(embeddings, counts, strict=True)]
        self.local_RD = F.normalize(torch.cat(own)[:, :num_dims].float(), dim=1)
        self._owner_T, self._place_T = np.divmod(step.schedule.slot_T, step.schedule.rows_per_rank)

    def is_held(self, row_E: np.ndarray) -> np.ndarray:
        """Bool [E]: this rank has encoded the text in this row of the step's table."""
        return self._owner_T[row_E] == comm.rank()

    def held(self, row_E: np.ndarray) -> Tensor:
        """[E, D] of rows that this rank has encoded."""
        return self.local_RD[torch.from_numpy(self._place_T[row_E]).to(self.local_RD.device)]

    def gathered(self, row_E: np.ndarray) -> Tensor:
        """[E, D] of rows that any rank has encoded. Every rank must call it."""
        is_held_E = self.is_held(row_E)
        row_ED = self.local_RD.new_zeros((len(row_E), self.local_RD.shape[1]))
        row_ED[torch.from_numpy(is_held_E).to(row_ED.device)] = self.held(row_E[is_held_E])
        return comm.all_reduce_sum(row_ED)
