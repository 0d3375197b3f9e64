"""From the arguments of `info_nce` to a `Problem`, or one line that says which argument is wrong.

The checks of values wait for the device once per call; everything else looks at shapes and types only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fused_contrastive.problem import Problem, Scope

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)
_WORKSPACE_BYTES = {"cuda": 256 << 20}
_DEFAULT_WORKSPACE_BYTES = 32 << 20


def require(condition: bool, argument: str, got: str, expected: str) -> None:
    """One line naming the argument, what came and what is allowed.

    Raises:
        ValueError: the condition does not hold.
    """
    if not condition:
        raise ValueError(f"info_nce {argument}: got {got}, expected {expected}")


def checked_problem(
    query_BD: Tensor,
    document_ND: Tensor,
    positive_B: Tensor,
    *,
    temperature: float | Tensor,
    matryoshka_dims: Sequence[int] | None,
    matryoshka_weights: Sequence[float] | None,
    weight_B: Tensor | None,
    negative_BM: Tensor | None,
    excluded_BX: Tensor | None,
    scope: Scope,
    query_group_B: Tensor | None,
    document_group_N: Tensor | None,
    query_key_B: Tensor | None,
    document_key_N: Tensor | None,
    margin: float | None,
    denominator: float | Tensor | None,
    workspace_bytes: int | None,
) -> Problem:
    """Check every argument of `info_nce` (meaning there) and fill in the defaults.

    Raises:
        ValueError: see `info_nce`.
    """
    _check_rows(query_BD, document_ND)
    num_queries, num_documents = len(query_BD), len(document_ND)
    dims = _dims(matryoshka_dims, query_BD.shape[1])
    require(scope in ("own", "task", "step"), "scope", repr(scope), "'own', 'task' or 'step'")
    if scope == "task":
        require(query_group_B is not None, "query_group_B", "None", "a group per query with scope='task'")
        require(document_group_N is not None, "document_group_N", "None", "a group per document with scope='task'")
    require(margin is None or math.isfinite(margin), "false_negative_margin", str(margin), "None or a finite number")
    require(
        workspace_bytes is None or workspace_bytes > 0, "workspace_bytes", str(workspace_bytes), "a positive number"
    )
    device = query_BD.device
    weight_B = _weights(weight_B, query_BD)
    return Problem(
        query_BD=query_BD,
        document_ND=document_ND,
        positive_B=_index(positive_B, "positive_B", (num_queries,), device, num_documents, lowest=0),
        temperature_B=_temperature(temperature, query_BD),
        share_B=weight_B / _denominator(denominator, weight_B),
        dims=dims,
        level_weights=_level_weights(matryoshka_weights, len(dims)),
        negative_BM=_listed(negative_BM, "negative_BM", num_queries, device, num_documents),
        excluded_BX=_listed(excluded_BX, "excluded_BX", num_queries, device, num_documents),
        scope=scope,
        query_group_B=_labels(query_group_B, "query_group_B", num_queries, device),
        document_group_N=_labels(document_group_N, "document_group_N", num_documents, device),
        query_key_B=_labels(query_key_B, "query_key_B", num_queries, device),
        document_key_N=_labels(document_key_N, "document_key_N", num_documents, device),
        margin=margin,
        workspace_bytes=workspace_bytes or _WORKSPACE_BYTES.get(device.type, _DEFAULT_WORKSPACE_BYTES),
    )


def _describe(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)} on {tensor.device}"


def _check_rows(query_BD: Tensor, document_ND: Tensor) -> None:
    for argument, rows in (("query_BD", query_BD), ("document_ND", document_ND)):
        fits = rows.ndim == 2 and rows.dtype in _FLOATS
        require(fits, argument, _describe(rows), "a floating-point matrix with one row per text")
    require(query_BD.shape[1] > 0, "query_BD", _describe(query_BD), "at least one dimension")
    fits = query_BD.shape[1] == document_ND.shape[1] and query_BD.dtype == document_ND.dtype
    wanted = f"the columns, type and device of query_BD ({_describe(query_BD)})"
    require(fits and query_BD.device == document_ND.device, "document_ND", _describe(document_ND), wanted)


def _dims(dims: Sequence[int] | None, width: int) -> tuple[int, ...]:
    chosen = (width,) if dims is None else tuple(int(dim) for dim in dims)
    ascending = bool(chosen) and list(chosen) == sorted(set(chosen)) and chosen[0] >= 1 and chosen[-1] <= width
    require(ascending, "matryoshka_dims", str(list(chosen)), f"ascending numbers from 1 to {width} (D), each once")
    return chosen


def _level_weights(weights: Sequence[float] | None, num_levels: int) -> tuple[float, ...]:
    chosen = (1.0,) * num_levels if weights is None else tuple(float(weight) for weight in weights)
    fits = len(chosen) == num_levels and all(0 <= weight < math.inf for weight in chosen)
    require(fits, "matryoshka_weights", str(list(chosen)), f"{num_levels} numbers of at least 0, one per level")
    return chosen


def _accumulation_dtype(rows: Tensor) -> torch.dtype:
    return torch.float64 if rows.dtype == torch.float64 else torch.float32


def _temperature(temperature: float | Tensor, query_BD: Tensor) -> Tensor:
    dtype, device, num_queries = _accumulation_dtype(query_BD), query_BD.device, len(query_BD)
    if not isinstance(temperature, Tensor):
        positive = 0 < temperature < math.inf
        require(positive, "temperature", str(temperature), "a finite number above 0")
        return torch.full((num_queries,), temperature, dtype=dtype, device=device)
    fits = temperature.ndim == 0 or temperature.shape == (num_queries,)
    fits = fits and temperature.dtype in _FLOATS and (temperature.ndim == 0 or temperature.device == device)
    require(fits, "temperature", _describe(temperature), f"a number or floats of shape [{num_queries}] on {device}")
    in_range = bool(((temperature > 0) & temperature.isfinite()).all())
    require(in_range, "temperature", "a value that is not finite and above 0", "finite numbers above 0")
    return temperature.to(device, dtype).expand(num_queries)


def _weights(weight_B: Tensor | None, query_BD: Tensor) -> Tensor:
    dtype = _accumulation_dtype(query_BD)
    if weight_B is None:
        return torch.ones(len(query_BD), dtype=dtype, device=query_BD.device)
    fits = weight_B.shape == (len(query_BD),) and weight_B.device == query_BD.device
    require(fits, "weight_B", _describe(weight_B), f"shape [{len(query_BD)}] on {query_BD.device}")
    require(not weight_B.requires_grad, "weight_B", "a tensor that requires a gradient", "constants; detach it")
    in_range = bool(((weight_B >= 0) & weight_B.isfinite()).all())
    require(in_range, "weight_B", "a negative, NaN or infinite weight", "finite numbers of at least 0")
    return weight_B.to(dtype)


def _denominator(denominator: float | Tensor | None, weight_B: Tensor) -> Tensor:
    if denominator is None:
        total = weight_B.sum()
        return total.masked_fill(total == 0, 1.0)
    value = torch.as_tensor(denominator)
    require(value.numel() == 1, "denominator", _describe(value), "one number")
    require(not value.requires_grad, "denominator", "a tensor that requires a gradient", "a constant; detach it")
    require(0 < float(value) < math.inf, "denominator", str(float(value)), "a finite number above 0")
    return value.reshape(()).to(weight_B)


def _index(
    index: Tensor, argument: str, shape: tuple[int, ...], device: torch.device, num_documents: int, lowest: int
) -> Tensor:
    fits = index.dtype in _INTEGERS and tuple(index.shape) == shape and index.device == device
    require(fits, argument, _describe(index), f"integers of shape {list(shape)} on {device}")
    if index.numel():
        smallest, largest = int(index.min()), int(index.max())
        in_range = smallest >= lowest and largest < num_documents
        wanted = f"rows of document_ND, {lowest} to {num_documents - 1}" + (" (-1 pads)" if lowest < 0 else "")
        require(in_range, argument, f"values from {smallest} to {largest}", wanted)
    return index.long()


def _listed(
    index: Tensor | None, argument: str, num_queries: int, device: torch.device, num_documents: int
) -> Tensor | None:
    if index is None:
        return None
    require(index.ndim == 2, argument, _describe(index), f"integers of shape [{num_queries}, any] on {device}")
    checked = _index(index, argument, (num_queries, index.shape[1]), device, num_documents, lowest=-1)
    return checked if checked.shape[1] else None


def _labels(label: Tensor | None, argument: str, length: int, device: torch.device) -> Tensor | None:
    if label is None:
        return None
    fits = label.dtype in _INTEGERS and tuple(label.shape) == (length,) and label.device == device
    require(fits, argument, _describe(label), f"integers of shape [{length}] on {device}")
    return label.long()
