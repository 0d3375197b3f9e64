"""Scopes `task` and `step`: the similarity matrix in panels, all Matryoshka levels in one pass over D.

With P_c = Q_c D_c^T over the columns c that level c adds, rq_k = 1 / |q[:dim_k]| and rd_k likewise:
    s_k  = (sum_{c <= k} P_c) * rq_k * rd_k                              similarity of level k
    g_k  = level_weight_k * share / temperature * (softmax_k - onehot)   dL/ds_k, 0 where masked
    G_c  = sum_{k >= c} g_k * rq_k * rd_k
    dQ_c = G_c D_c   - (sum_{k >= c} rq_k^2 * sum_j g_k s_k) Q_c
    dD_c = G_c^T Q_c - (sum_{k >= c} rd_k^2 * sum_i g_k s_k) D_c
A panel of queries that sees all documents at once needs three matrix products (6BND operations for any number of
levels). When so few rows would fit that the products crawl, square tiles are used and computed twice: once for the
denominators, once for the gradient.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from fused_contrastive.cosine import chunks, prefix_inverse_norms, prefix_sums, suffix_sums
from fused_contrastive.listed import listed_cosines
from fused_contrastive.masks import TileMask, count_false
from fused_contrastive.passes import Needs, PassResult, panels
from fused_contrastive.problem import InfoNCEStats, Problem

_MASKED = -1e30  # a logit of no weight; finite, so that 0 * _MASKED is 0
_MIN_ROWS = 128  # full-width panels thinner than this lose more in the products than computing tiles twice costs
_MAX_ROWS = 512  # a taller panel leaves the processor's cache and gains nothing


def dense_pass(problem: Problem, needs: Needs) -> PassResult:
    """Value, statistics and gradients of scopes `task` and `step`."""
    return _DensePass(problem, needs).run()


class _DensePass:
    """Results are allocated once; a tile lives in reused buffers of the workspace."""

    def __init__(self, problem: Problem, needs: Needs) -> None:
        self.problem, self.needs = problem, needs
        self.query = problem.query_BD.detach().to(problem.dtype).contiguous()
        self.document = problem.document_ND.detach().to(problem.dtype).contiguous()
        self.temperature_B = problem.temperature_B.detach()
        self.chunks = chunks(problem.dims)
        self.inverse_query_KB = prefix_inverse_norms(self.query, problem.dims)
        self.inverse_document_KN = prefix_inverse_norms(self.document, problem.dims)
        self.mask = TileMask(problem)
        self._allocate_results()
        self._allocate_workspace()

    def run(self) -> PassResult:
        for rows in panels(len(self.query), self.num_rows):
            self._score_positives(rows)
            tiles = list(panels(len(self.document), self.num_columns))
            for columns in tiles:
                self._score(rows, columns, first_time=True)
            if not any(self.needs):
                continue
            for columns in tiles:
                if len(tiles) > 1:
                    self._score(rows, columns, first_time=False)
                self._differentiate(rows, columns)
        return self._result()

    def _allocate_results(self) -> None:
        num_levels, num_queries = self.inverse_query_KB.shape
        new = self.query.new_zeros
        self.positive_KB = new(num_levels, num_queries)
        self.loss_KB = new(num_levels, num_queries)
        self.negative_lse_KB = new(num_levels, num_queries).fill_(_MASKED)
        self.query_dot_KB = new(num_levels, num_queries)  # sum_j g_k s_k
        self.document_dot_KN = new(self.inverse_document_KN.shape)  # sum_i g_k s_k
        self.hardest_B = new(num_queries).fill_(_MASKED)
        self.negative_sum_B = new(num_queries)
        self.num_kept_B = torch.zeros_like(self.problem.positive_B)
        self.num_offered_B = torch.zeros_like(self.problem.positive_B)
        self.query_gradient = torch.zeros_like(self.query) if self.needs.query else None
        self.document_gradient = torch.zeros_like(self.document) if self.needs.document else None

    def _allocate_workspace(self) -> None:
        problem, num_levels = self.problem, len(self.chunks)
        num_slots = num_levels if any(self.needs) else 1
        num_tiles = num_slots + 1 + (num_levels > 1)
        self.num_rows, self.num_columns = self._tile_shape(num_tiles)
        cells = self.num_rows * self.num_columns
        tiles = [self.query.new_empty(cells) for _ in range(num_tiles)]
        self.scratch = tiles.pop()
        self.accumulator = tiles.pop() if num_levels > 1 else None  # a single level accumulates in its slot
        self.slots = tiles if any(self.needs) else tiles * num_levels
        masks = torch.empty(2, cells + self.num_rows, dtype=torch.bool, device=problem.query_BD.device)
        self.mask_buffer, self.margin_buffer = masks

    def _tile_shape(self, num_tiles: int) -> tuple[int, int]:
        num_queries, num_documents = max(1, len(self.query)), max(1, len(self.document))
        item_bytes = torch.finfo(self.problem.dtype).bits // 8
        cell_bytes = num_tiles * item_bytes + 4  # two masks and what building them takes
        row_bytes = self.query.shape[1] * item_bytes + self.mask.bytes_per_row
        workspace = self.problem.workspace_bytes
        num_rows = min(workspace // (num_documents * cell_bytes + row_bytes), _MAX_ROWS, num_queries)
        if num_rows >= min(_MIN_ROWS, num_queries):
            return num_rows, num_documents
        side = max(1, math.isqrt(workspace // cell_bytes))
        return min(max(1, workspace // (side * cell_bytes + row_bytes)), num_queries), min(side, num_documents)

    def _score_positives(self, rows: slice) -> None:
        index_P = self.problem.positive_B[rows]
        positive_PD, query_PD = self.document[index_P], self.query[rows]
        dots = (torch.bmm(query_PD[:, None, chunk], positive_PD[:, chunk, None])[:, 0, 0] for chunk in self.chunks)
        cosine_KP = prefix_sums(dots) * self.inverse_query_KB[:, rows] * self.inverse_document_KN[:, index_P]
        self.positive_KB[:, rows] = cosine_KP

    def _score(self, rows: slice, columns: slice, first_time: bool) -> None:
        """Fill the slots with masked logits; the first time, add the tile to denominators and statistics."""
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        mask_buffer, scratch_PC = _shaped(self.mask_buffer, shape[0], shape[1] + 1), _shaped(self.scratch, *shape)
        masked_PC, offered_P = self.mask.fill(mask_buffer, scratch_PC, rows, columns)
        temperature_P = self.temperature_B[rows]
        for level, chunk in enumerate(self.chunks):
            logit_PC = _shaped(self.slots[level], *shape)
            dot_PC = logit_PC if self.accumulator is None else _shaped(self.accumulator, *shape)
            query_PD, document_CD = self.query[rows, chunk], self.document[columns, chunk]
            if level == 0:
                torch.mm(query_PD, document_CD.T, out=dot_PC)
            else:
                dot_PC.addmm_(query_PD, document_CD.T)
            torch.mul(dot_PC, (self.inverse_query_KB[level, rows] / temperature_P)[:, None], out=logit_PC)
            logit_PC.mul_(self.inverse_document_KN[level, columns])
            dropped_PC = self._drop_by_margin(masked_PC, logit_PC, level, rows)
            last = level == len(self.chunks) - 1
            if first_time and last:
                self.negative_sum_B[rows] += logit_PC.masked_fill_(dropped_PC, 0.0).sum(1) * temperature_P
                self.num_kept_B[rows] += count_false(dropped_PC, scratch_PC)
                self.num_offered_B[rows] += offered_P
            logit_PC.masked_fill_(dropped_PC, _MASKED)
            if first_time:
                hardest_P = self._add_to_denominator(logit_PC, level, rows)
                if last:
                    self.hardest_B[rows] = self.hardest_B[rows].maximum(hardest_P)
            if any(self.needs):
                self._place(logit_PC, self.positive_KB[level, rows] / temperature_P, rows, columns)

    def _drop_by_margin(self, masked_PC: Tensor, logit_PC: Tensor, level: int, rows: slice) -> Tensor:
        if self.problem.margin is None:
            return masked_PC
        highest_P = (self.positive_KB[level, rows] + self.problem.margin + self.problem.tie) / self.temperature_B[rows]
        above_PC = torch.gt(logit_PC, highest_P[:, None], out=_shaped(self.margin_buffer, *logit_PC.shape))
        return above_PC.logical_or_(masked_PC)

    def _add_to_denominator(self, logit_PC: Tensor, level: int, rows: slice) -> Tensor:
        hardest_P = logit_PC.amax(1)
        scratch_PC = _shaped(self.scratch, *logit_PC.shape)
        sum_P = torch.sub(logit_PC, hardest_P[:, None], out=scratch_PC).exp_().sum(1)
        lse_P = torch.logaddexp(self.negative_lse_KB[level, rows], hardest_P + sum_P.log())
        self.negative_lse_KB[level, rows] = lse_P
        above_P = lse_P - self.positive_KB[level, rows] / self.temperature_B[rows]
        self.loss_KB[level, rows] = torch.logaddexp(above_P, torch.zeros_like(above_P))
        return hardest_P

    def _place(self, tile_PC: Tensor, value_P: Tensor, rows: slice, columns: slice) -> None:
        """Write each query's value at its positive, where that lies in the tile."""
        local_P = self.problem.positive_B[rows] - columns.start
        inside_P = (local_P >= 0) & (local_P < tile_PC.shape[1])
        local_P1 = local_P.clamp(0, tile_PC.shape[1] - 1)[:, None]
        tile_PC.scatter_(1, local_P1, torch.where(inside_P[:, None], value_P[:, None], tile_PC.gather(1, local_P1)))

    def _differentiate(self, rows: slice, columns: slice) -> None:
        """Add the tile's part of the gradients; uses up the slots' logits."""
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        share_P, temperature_P = self.problem.share_B[rows], self.temperature_B[rows]
        for level, weight in enumerate(self.problem.level_weights):
            logit_PC, slope_PC = _shaped(self.slots[level], *shape), _shaped(self.scratch, *shape)
            positive_P, loss_P = self.positive_KB[level, rows] / temperature_P, self.loss_KB[level, rows]
            torch.sub(logit_PC, (positive_P + loss_P)[:, None], out=slope_PC).exp_()  # softmax - onehot
            self._place(slope_PC, torch.expm1(-loss_P), rows, columns)
            product_PC = logit_PC.mul_(slope_PC)
            self.query_dot_KB[level, rows] += product_PC.sum(1) * (weight * share_P)
            self.document_dot_KN[level, columns] += product_PC.T @ (weight * share_P)
            slope_PC.mul_((weight * share_P / temperature_P * self.inverse_query_KB[level, rows])[:, None])
            slope_PC.mul_(self.inverse_document_KN[level, columns])
            self.slots[level], self.scratch = self.scratch, self.slots[level]
        for level in reversed(range(len(self.chunks))):
            chunk, slope_PC = self.chunks[level], _shaped(self.slots[level], *shape)
            if level + 1 < len(self.chunks):
                slope_PC.add_(_shaped(self.slots[level + 1], *shape))
            if self.query_gradient is not None:
                self.query_gradient[rows, chunk].addmm_(slope_PC, self.document[columns, chunk])
            if self.document_gradient is not None:
                self.document_gradient[columns, chunk].addmm_(slope_PC.T, self.query[rows, chunk])

    def _result(self) -> PassResult:
        problem = self.problem
        _remove_radial(self.query_gradient, self.query, self.inverse_query_KB, self.query_dot_KB, self.chunks)
        _remove_radial(
            self.document_gradient, self.document, self.inverse_document_KN, self.document_dot_KN, self.chunks
        )
        return PassResult(
            self._stats(),
            None if self.query_gradient is None else self.query_gradient.to(problem.query_BD.dtype),
            None if self.document_gradient is None else self.document_gradient.to(problem.document_ND.dtype),
            -self.query_dot_KB.sum(0) / self.temperature_B if self.needs.temperature else None,
        )

    def _stats(self) -> InfoNCEStats:
        problem = self.problem
        own = problem.negative_BM
        level_weight_K1 = self.query.new_tensor(problem.level_weights)[:, None]
        return InfoNCEStats(
            positive_similarity_B=self.positive_KB[-1],
            negative_similarity_BM=None if own is None else listed_cosines(problem, self.query, self.document, own),
            lse_KB=self.positive_KB / self.temperature_B + self.loss_KB,
            loss_B=(level_weight_K1 * self.loss_KB).sum(0),
            correct_B=self.positive_KB[-1] - self.hardest_B * self.temperature_B > problem.tie,
            masked_B=self.num_offered_B - self.num_kept_B,
            mean_negative_similarity_B=self.negative_sum_B / self.num_kept_B,
        )


def _shaped(buffer: Tensor, num_rows: int, num_columns: int) -> Tensor:
    return buffer[: num_rows * num_columns].view(num_rows, num_columns)


def _remove_radial(
    gradient: Tensor | None, row_ND: Tensor, inverse_KN: Tensor, dot_KN: Tensor, columns: list[slice]
) -> None:
    """Take out the part along the row itself, once the sums over all tiles are known."""
    if gradient is None:
        return
    along_KN = suffix_sums(inverse_KN.square() * dot_KN)
    for level, chunk in enumerate(columns):
        gradient[:, chunk].addcmul_(row_ND[:, chunk], along_KN[level, :, None], value=-1)
