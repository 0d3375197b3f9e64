"""The public function: checks its arguments and hands them to one implementation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from torch import Tensor

from fused_contrastive.chunked import chunked
from fused_contrastive.problem import InfoNCEOutput, Problem, Scope
from fused_contrastive.reference import reference
from fused_contrastive.validation import checked_problem, require

_IMPLEMENTATIONS: dict[str, Callable[[Problem], InfoNCEOutput]] = {
    "auto": chunked,
    "chunked": chunked,
    "reference": reference,
}


def info_nce(
    query_BD: Tensor,
    document_ND: Tensor,
    positive_B: Tensor,
    *,
    temperature: float | Tensor,
    matryoshka_dims: Sequence[int] | None = None,
    matryoshka_weights: Sequence[float] | None = None,
    weight_B: Tensor | None = None,
    negative_BM: Tensor | None = None,
    excluded_BX: Tensor | None = None,
    scope: Scope = "step",
    query_group_B: Tensor | None = None,
    document_group_N: Tensor | None = None,
    query_key_B: Tensor | None = None,
    document_key_N: Tensor | None = None,
    false_negative_margin: float | None = None,
    denominator: float | Tensor | None = None,
    implementation: Literal["auto", "reference", "chunked"] = "auto",
    workspace_bytes: int | None = None,
) -> InfoNCEOutput:
    """loss = sum_i weight_i * sum_k level_weight_k * -log softmax_k(i)[positive_i] / denominator.

    softmax_k(i) runs over the positive and the kept negatives of query i, on cosine(query[:dim_k], document[:dim_k])
    / temperature_i. Rows need no normalisation; a zero prefix has cosine 0 with everything and gets no gradient.

    Args:
        query_BD: float16, bfloat16, float32 or float64 rows; gradients come back in this type, sums are float32
            (float64 for float64). NaN or infinite rows give a NaN loss.
        document_ND: same type and device.
        positive_B: index of each query's positive in `document_ND`.
        temperature: a number, a scalar tensor or one per query; a tensor may require a gradient.
        matryoshka_dims: ascending prefix lengths of at most D; None means [D]. Columns above the last are unused.
        matryoshka_weights: one per level, default 1.
        weight_B: one per query, at least 0, default 1; takes no gradient.
        negative_BM: the query's own negatives, -1 padded. A document counts once however often it is named.
        excluded_BX: documents that are never negatives of the query, -1 padded.
        scope: which documents may be negatives. `step`: all; `task`: those whose group equals the query's, and
            `negative_BM`; `own`: `negative_BM` only, at a cost of B * M * D.
        query_group_B: the query's group, needed by scope `task`.
        document_group_N: the document's group, needed by scope `task`.
        query_key_B: positives of queries with an equal key are never negatives of each other's.
        document_key_N: a document whose key equals that of the positive is never a negative.
        false_negative_margin: at each level, drop negatives with cosine > positive's + margin (no gradient; equal up to
            rounding is kept).
        denominator: default the sum of the weights; callers with a part of the queries pass the whole's. A sum of
            0 (no queries, or weights all 0) gives loss 0 and zero gradients.
        implementation: `chunked` never builds a B x N matrix; `reference` does. `auto` is `chunked`.
        workspace_bytes: memory `chunked` may use beside results linear in B + N; default 32 MiB, 256 MiB on CUDA.

    Raises:
        ValueError: an argument is out of its range; the message names it, what came and what is allowed.
    """
    require(implementation in _IMPLEMENTATIONS, "implementation", repr(implementation), str(list(_IMPLEMENTATIONS)))
    problem = checked_problem(
        query_BD,
        document_ND,
        positive_B,
        temperature=temperature,
        matryoshka_dims=matryoshka_dims,
        matryoshka_weights=matryoshka_weights,
        weight_B=weight_B,
        negative_BM=negative_BM,
        excluded_BX=excluded_BX,
        scope=scope,
        query_group_B=query_group_B,
        document_group_N=document_group_N,
        query_key_B=query_key_B,
        document_key_N=document_key_N,
        margin=false_negative_margin,
        denominator=denominator,
        workspace_bytes=workspace_bytes,
    )
    return _IMPLEMENTATIONS[implementation](problem)
