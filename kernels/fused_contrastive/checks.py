"""One check per kind of argument: takes the caller's value, and returns it in a uniform form or raises an error.

Every error is one line, `FUNCTION ARGUMENT: got ..., expected ...`. Shapes and types are checked immediately. Values
are on the device; `ValueChecks` collects the checks that need values and reads all values in one transfer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fused_contrastive.options import Matryoshka
from fused_contrastive.ragged import RaggedLists

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)


def require(condition: bool, argument: str, got: str, expected: str, function: str = "info_nce") -> None:
    """Raise an error unless the condition is true; one line with the argument, its value and the allowed values.

    Raises:
        ValueError: the condition is false.
    """
    if not condition:
        raise ValueError(f"{function} {argument}: got {got}, expected {expected}")


def describe(tensor: Tensor) -> str:
    """Type, shape and device of a tensor, for an error message."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)} on {tensor.device}"


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes, device and type that all other arguments must match."""

    num_queries: int
    num_documents: int  # in the whole table
    device: torch.device
    dtype: torch.dtype  # the type of sums


class ValueChecks:
    """Collects the checks that need values from the device, so that the host waits for the device only once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pending: list[tuple[Tensor, Callable[..., None]]] = []

    def add(self, number_E: Tensor, check: Callable[..., None]) -> None:
        """Register a check: `run` calls `check` with the numbers as Python integers."""
        self._pending.append((number_E.detach().to(self._device, torch.int64), check))

    def require(self, condition: Tensor, argument: str, got: str, expected: str) -> None:
        """Like the function `require`, for a condition of shape [] on the device."""
        self.add(condition.reshape(1), lambda holds: require(bool(holds), argument, got, expected))

    def require_each(self, condition_B: Tensor, argument: str, got: str, expected: str) -> None:
        """Require that the condition is true for every row; the message has the first row where it is false."""
        if len(condition_B):
            first = torch.stack([condition_B.all().long(), (~condition_B).byte().argmax()])
            self.add(first, lambda holds, row: require(bool(holds), argument, f"{got} {row}", expected))

    def run(self) -> None:
        """Copy all numbers to the host and run the checks in the order in which they were added.

        Raises:
            ValueError: from the first check that fails.
        """
        if self._pending:
            numbers = iter(torch.cat([number_E for number_E, _ in self._pending]).tolist())
            for number_E, check in self._pending:
                check(*(next(numbers) for _ in number_E))


def check_rows(query_BD: Tensor, document_ND: Tensor) -> None:
    """Require two floating-point matrices with equal numbers of columns, types and devices."""
    for argument, rows in (("query_BD", query_BD), ("document_ND", document_ND)):
        fits = rows.ndim == 2 and rows.dtype in FLOATS
        require(fits, argument, describe(rows), "a floating-point matrix with one row per text")
    require(query_BD.shape[1] > 0, "query_BD", describe(query_BD), "at least one dimension")
    fits = query_BD.shape[1] == document_ND.shape[1] and query_BD.dtype == document_ND.dtype
    wanted = f"the columns, type and device of query_BD ({describe(query_BD)})"
    require(fits and query_BD.device == document_ND.device, "document_ND", describe(document_ND), wanted)


def check_pair_rows(embedding1_ED: Tensor, embedding2_ED: Tensor, function: str) -> None:
    """Require two floating-point matrices of equal shape; row e of both is pair e."""
    fits = embedding1_ED.ndim == 2 and embedding1_ED.dtype in FLOATS and embedding1_ED.shape[1] > 0
    wanted = "a floating-point matrix with one row per pair"
    require(fits, "embedding1_ED", describe(embedding1_ED), wanted, function)
    fits = embedding2_ED.shape == embedding1_ED.shape and embedding2_ED.dtype == embedding1_ED.dtype
    fits = fits and embedding2_ED.device == embedding1_ED.device
    wanted = f"the same as embedding1_ED ({describe(embedding1_ED)})"
    require(fits, "embedding2_ED", describe(embedding2_ED), wanted, function)


def checked_matryoshka(
    matryoshka: Matryoshka | None, width: int, function: str = "info_nce"
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Prefix lengths and one weight per level; for None, one level of the full width with weight 1."""
    if matryoshka is None:
        return (width,), (1.0,)
    dims = tuple(matryoshka.dims)
    integers = bool(dims) and all(int(dim) == dim for dim in dims)
    ascending = integers and list(dims) == sorted(set(dims)) and dims[0] >= 1 and dims[-1] <= width
    wanted = f"ascending numbers from 1 to {width} (D), each once"
    require(ascending, "matryoshka.dims", str(list(dims)), wanted, function)
    weights = checked_level_weights(matryoshka.weights, len(dims), "matryoshka.weights", function)
    return tuple(int(dim) for dim in dims), weights


def checked_level_weights(
    weights: Sequence[float] | None, num_levels: int, argument: str, function: str = "info_nce"
) -> tuple[float, ...]:
    """One finite weight per level; for None, 1 for each level."""
    chosen = (1.0,) * num_levels if weights is None else tuple(float(weight) for weight in weights)
    fits = len(chosen) == num_levels and all(0 <= weight < math.inf for weight in chosen)
    wanted = f"{num_levels} numbers of at least 0, one per level"
    require(fits, argument, str(list(chosen)), wanted, function)
    return chosen


def checked_temperature(temperature: float | Tensor, sizes: Sizes, values: ValueChecks) -> Tensor:
    """[B]: the temperature of each query; keeps the autograd graph of a tensor."""
    num_queries, device = sizes.num_queries, sizes.device
    if not isinstance(temperature, Tensor):
        require(0 < temperature < math.inf, "temperature", str(temperature), "a finite number above 0")
        return torch.full((num_queries,), temperature, dtype=sizes.dtype, device=device)
    fits = temperature.ndim == 0 or temperature.shape == (num_queries,)
    fits = fits and temperature.dtype in FLOATS and (temperature.ndim == 0 or temperature.device == device)
    require(fits, "temperature", describe(temperature), f"a number or floats of shape [{num_queries}] on {device}")
    in_range = ((temperature > 0) & temperature.isfinite()).all()
    values.require(in_range, "temperature", "a value that is not finite and above 0", "finite numbers above 0")
    return temperature.to(device, sizes.dtype).expand(num_queries)


def checked_weights(weight_B: Tensor | None, sizes: Sizes, values: ValueChecks) -> Tensor:
    """[B]: the weight of each query; for None, 1 for each query."""
    num_queries, device = sizes.num_queries, sizes.device
    if weight_B is None:
        return torch.ones(num_queries, dtype=sizes.dtype, device=device)
    fits = weight_B.shape == (num_queries,) and weight_B.device == device
    require(fits, "weight_B", describe(weight_B), f"shape [{num_queries}] on {device}")
    require(not weight_B.requires_grad, "weight_B", "a tensor that requires a gradient", "constants; detach it")
    in_range = ((weight_B >= 0) & weight_B.isfinite()).all()
    values.require(in_range, "weight_B", "a negative, NaN or infinite weight", "finite numbers of at least 0")
    return weight_B.to(sizes.dtype)


def checked_denominator(denominator: float | Tensor | None, weight_B: Tensor, values: ValueChecks) -> Tensor:
    """The denominator as a scalar; for None, the sum of the weights, or 1 if the sum is 0."""
    if denominator is None:
        total = weight_B.sum()
        return total.masked_fill(total == 0, 1.0)
    if not isinstance(denominator, Tensor):
        require(0 < denominator < math.inf, "denominator", str(denominator), "a finite number above 0")
        return weight_B.new_tensor(denominator)
    require(denominator.numel() == 1, "denominator", describe(denominator), "one number")
    require(not denominator.requires_grad, "denominator", "a tensor that requires a gradient", "a constant; detach it")
    in_range = (denominator > 0) & denominator.isfinite()
    values.require(in_range, "denominator", "a value that is not finite and above 0", "a finite number above 0")
    return denominator.reshape(()).to(weight_B)


def checked_lists(index: Tensor | None, argument: str, sizes: Sizes, values: ValueChecks) -> Tensor | None:
    """[B, any]: rows of the document table, -1 padded; None if there are no columns."""
    if index is None:
        return None
    expected = f"integers of shape [{sizes.num_queries}, any] on {sizes.device}"
    require(index.ndim == 2, argument, describe(index), expected)
    checked = _checked_index(index, argument, (sizes.num_queries, index.shape[1]), sizes, values, lowest=-1)
    return checked if checked.shape[1] else None


def checked_ragged_lists(
    lists: RaggedLists | None, argument: str, sizes: Sizes, values: ValueChecks
) -> RaggedLists | None:
    """The lists as int64, one per query, with rows of the document table; None if there are no entries."""
    if lists is None:
        return None
    got = describe(lists) if isinstance(lists, Tensor) else type(lists).__name__
    wanted = "RaggedLists, one list per query; RaggedLists.of_padded makes them of a -1 padded matrix"
    require(isinstance(lists, RaggedLists), argument, got, wanted)
    start_B1, index_E = lists.start_B1, lists.index_E
    fits = (
        start_B1.dtype in _INTEGERS and start_B1.shape == (sizes.num_queries + 1,) and start_B1.device == sizes.device
    )
    expected = f"integers of shape [{sizes.num_queries + 1}] on {sizes.device}, a start per query and the end"
    require(fits, f"{argument}.start_B1", describe(start_B1), expected)
    ascends = (start_B1[0] == 0) & (start_B1[-1] == index_E.numel()) & (start_B1.diff() >= 0).all()
    wanted = f"numbers that ascend from 0 to the {index_E.numel()} entries of index_E"
    values.require(ascends, f"{argument}.start_B1", "other numbers", wanted)
    index_E = _checked_index(index_E, f"{argument}.index_E", (index_E.numel(),), sizes, values, lowest=0)
    return RaggedLists(start_B1.long(), index_E) if len(index_E) else None


def checked_rows(
    index: Tensor | None, argument: str, sizes: Sizes, values: ValueChecks, lowest: int = -1
) -> Tensor | None:
    """[B]: rows of the document table; None stays None."""
    return None if index is None else _checked_index(index, argument, (sizes.num_queries,), sizes, values, lowest)


def _checked_index(
    index: Tensor, argument: str, shape: tuple[int, ...], sizes: Sizes, values: ValueChecks, lowest: int
) -> Tensor:
    """int64 rows of the document table, from `lowest` (-1 if padding is allowed) to the last row."""
    fits = index.dtype in _INTEGERS and tuple(index.shape) == shape and index.device == sizes.device
    require(fits, argument, describe(index), f"integers of shape {list(shape)} on {sizes.device}")
    last = sizes.num_documents - 1
    expected = f"rows of document_ND, {lowest} to {last}" + (" (-1 pads)" if lowest < 0 else "")

    def check(smallest: int, largest: int) -> None:
        in_range = smallest >= lowest and largest <= last
        require(in_range, argument, f"values from {smallest} to {largest}", expected)

    if index.numel():
        values.add(torch.stack(index.aminmax()), check)
    return index.long()


def checked_labels(label: Tensor | None, argument: str, length: int, sizes: Sizes) -> Tensor | None:
    """int64 labels; every value is allowed, and None stays None."""
    if label is None:
        return None
    fits = label.dtype in _INTEGERS and tuple(label.shape) == (length,) and label.device == sizes.device
    require(fits, argument, describe(label), f"integers of shape [{length}] on {sizes.device}")
    return label.long()
