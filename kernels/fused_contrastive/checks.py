"""One check per kind of argument. Shapes and types are looked at at once, values together in one transfer.

Every error is one line: `FUNCTION ARGUMENT: got ..., expected ...`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_INTEGERS = (torch.int8, torch.uint8, torch.int16, torch.int32, torch.int64)


def require(condition: bool, argument: str, got: str, expected: str, function: str = "info_nce") -> None:
    """One line naming the argument, what came and what is allowed.

    Raises:
        ValueError: the condition does not hold.
    """
    if not condition:
        raise ValueError(f"{function} {argument}: got {got}, expected {expected}")


def describe(tensor: Tensor) -> str:
    """Type, shape and device."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)} on {tensor.device}"


class ValueChecks:
    """Checks that need values from the device, collected so that it is waited for once."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._pending: list[tuple[Tensor, Callable[..., None]]] = []

    def add(self, number_E: Tensor, check: Callable[..., None]) -> None:
        """`check` is called with the numbers, as integers, by `run`."""
        self._pending.append((number_E.detach().to(self._device, torch.int64), check))

    def require(self, condition: Tensor, argument: str, got: str, expected: str) -> None:
        """`require` with a condition of shape [] on the device."""
        self.add(condition.reshape(1), lambda holds: require(bool(holds), argument, got, expected))

    def require_each(self, condition_B: Tensor, argument: str, got: str, expected: str) -> None:
        """`require` that every row holds; `got` is followed by the first that does not."""
        if len(condition_B):
            first = torch.stack([condition_B.all().long(), (~condition_B).byte().argmax()])
            self.add(first, lambda holds, row: require(bool(holds), argument, f"{got} {row}", expected))

    def run(self) -> None:
        """Read all numbers back and check them in the order in which they came.

        Raises:
            ValueError: the first check that fails.
        """
        if self._pending:
            numbers = iter(torch.cat([number_E for number_E, _ in self._pending]).tolist())
            for number_E, check in self._pending:
                check(*(next(numbers) for _ in number_E))


def check_rows(query_BD: Tensor, document_ND: Tensor) -> None:
    """Two floating-point matrices that fit each other."""
    for argument, rows in (("query_BD", query_BD), ("document_ND", document_ND)):
        fits = rows.ndim == 2 and rows.dtype in FLOATS
        require(fits, argument, describe(rows), "a floating-point matrix with one row per text")
    require(query_BD.shape[1] > 0, "query_BD", describe(query_BD), "at least one dimension")
    fits = query_BD.shape[1] == document_ND.shape[1] and query_BD.dtype == document_ND.dtype
    wanted = f"the columns, type and device of query_BD ({describe(query_BD)})"
    require(fits and query_BD.device == document_ND.device, "document_ND", describe(document_ND), wanted)


def check_pair_rows(embedding1_ED: Tensor, embedding2_ED: Tensor, function: str) -> None:
    """Two floating-point matrices of one shape: row e of both is pair e."""
    fits = embedding1_ED.ndim == 2 and embedding1_ED.dtype in FLOATS and embedding1_ED.shape[1] > 0
    wanted = "a floating-point matrix with one row per pair"
    require(fits, "embedding1_ED", describe(embedding1_ED), wanted, function)
    fits = embedding2_ED.shape == embedding1_ED.shape and embedding2_ED.dtype == embedding1_ED.dtype
    fits = fits and embedding2_ED.device == embedding1_ED.device
    wanted = f"the same as embedding1_ED ({describe(embedding1_ED)})"
    require(fits, "embedding2_ED", describe(embedding2_ED), wanted, function)


def checked_dims(dims: Sequence[int] | None, width: int, function: str = "info_nce") -> tuple[int, ...]:
    """Ascending prefix lengths; None is the whole width."""
    chosen = (width,) if dims is None else tuple(dims)
    whole = all(int(dim) == dim for dim in chosen)
    ascending = (
        whole and bool(chosen) and list(chosen) == sorted(set(chosen)) and chosen[0] >= 1 and chosen[-1] <= width
    )
    wanted = f"ascending numbers from 1 to {width} (D), each once"
    require(ascending, "matryoshka_dims", str(list(chosen)), wanted, function)
    return tuple(int(dim) for dim in chosen)


def checked_level_weights(
    weights: Sequence[float] | None, num_levels: int, function: str = "info_nce"
) -> tuple[float, ...]:
    """One finite weight per level; None is 1 for each."""
    chosen = (1.0,) * num_levels if weights is None else tuple(float(weight) for weight in weights)
    fits = len(chosen) == num_levels and all(0 <= weight < math.inf for weight in chosen)
    wanted = f"{num_levels} numbers of at least 0, one per level"
    require(fits, "matryoshka_weights", str(list(chosen)), wanted, function)
    return chosen


def checked_temperature(
    temperature: float | Tensor, num_queries: int, dtype: torch.dtype, device: torch.device, values: ValueChecks
) -> Tensor:
    """[B], with the graph of a tensor."""
    if not isinstance(temperature, Tensor):
        require(0 < temperature < math.inf, "temperature", str(temperature), "a finite number above 0")
        return torch.full((num_queries,), temperature, dtype=dtype, device=device)
    fits = temperature.ndim == 0 or temperature.shape == (num_queries,)
    fits = fits and temperature.dtype in FLOATS and (temperature.ndim == 0 or temperature.device == device)
    require(fits, "temperature", describe(temperature), f"a number or floats of shape [{num_queries}] on {device}")
    in_range = ((temperature > 0) & temperature.isfinite()).all()
    values.require(in_range, "temperature", "a value that is not finite and above 0", "finite numbers above 0")
    return temperature.to(device, dtype).expand(num_queries)


def checked_weights(
    weight_B: Tensor | None, num_queries: int, dtype: torch.dtype, device: torch.device, values: ValueChecks
) -> Tensor:
    """[B]; None is 1 for each query."""
    if weight_B is None:
        return torch.ones(num_queries, dtype=dtype, device=device)
    fits = weight_B.shape == (num_queries,) and weight_B.device == device
    require(fits, "weight_B", describe(weight_B), f"shape [{num_queries}] on {device}")
    require(not weight_B.requires_grad, "weight_B", "a tensor that requires a gradient", "constants; detach it")
    in_range = ((weight_B >= 0) & weight_B.isfinite()).all()
    values.require(in_range, "weight_B", "a negative, NaN or infinite weight", "finite numbers of at least 0")
    return weight_B.to(dtype)


def checked_denominator(denominator: float | Tensor | None, weight_B: Tensor, values: ValueChecks) -> Tensor:
    """A scalar; None is the sum of the weights, or 1 if that is 0."""
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


def checked_index(
    index: Tensor,
    argument: str,
    shape: tuple[int, ...],
    device: torch.device,
    num_documents: int,
    lowest: int,
    values: ValueChecks,
) -> Tensor:
    """int64 rows of the document table from `lowest` (-1 with padding) on."""
    fits = index.dtype in _INTEGERS and tuple(index.shape) == shape and index.device == device
    require(fits, argument, describe(index), f"integers of shape {list(shape)} on {device}")
    wanted = f"rows of document_ND, {lowest} to {num_documents - 1}" + (" (-1 pads)" if lowest < 0 else "")

    def check(smallest: int, largest: int) -> None:
        in_range = smallest >= lowest and largest < num_documents
        require(in_range, argument, f"values from {smallest} to {largest}", wanted)

    if index.numel():
        values.add(torch.stack(index.aminmax()), check)
    return index.long()


def checked_lists(
    index: Tensor | None,
    argument: str,
    num_queries: int,
    device: torch.device,
    num_documents: int,
    values: ValueChecks,
) -> Tensor | None:
    """A -1 padded list per query; without columns it is None."""
    if index is None:
        return None
    require(index.ndim == 2, argument, describe(index), f"integers of shape [{num_queries}, any] on {device}")
    shape = (num_queries, index.shape[1])
    checked = checked_index(index, argument, shape, device, num_documents, lowest=-1, values=values)
    return checked if checked.shape[1] else None


def checked_labels(label: Tensor | None, argument: str, length: int, device: torch.device) -> Tensor | None:
    """int64 labels of any value."""
    if label is None:
        return None
    fits = label.dtype in _INTEGERS and tuple(label.shape) == (length,) and label.device == device
    require(fits, argument, describe(label), f"integers of shape [{length}] on {device}")
    return label.long()
