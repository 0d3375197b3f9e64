"""What a user saves and loses with smaller vectors: a score per dimension and precision of the stored vectors.

Scores of quantised vectors stand beside the others under the names `METRIC@DIM_int8` and `METRIC@DIM_binary`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from harness.export.markdown import plain, table

Quantised = Literal["int8", "binary"]
QUANTISED: tuple[Quantised, ...] = ("int8", "binary")
_NAME = re.compile(r"(.+)@(\d+)_(int8|binary)")
_SECTION = """\
Bytes are those of a stored vector: fp32, 8 bits or 1 bit a dimension. Of retrieval and reranking only documents are
quantised; the 400 nearest binary ones are ranked anew with the query in fp32. In other tasks all vectors are quantised.
"""


def bytes_per_vector(dim: int, precision: str) -> int:
    """4 · dim in fp32, dim in int8, dim / 8 in binary, rounded up."""
    return {"fp32": 4 * dim, "int8": dim, "binary": -(-dim // 8)}[precision]


def quantised_name(metric: str, dim: int, precision: Quantised) -> str:
    """The name of a score of quantised vectors, as `ndcg_at_10@128_int8`."""
    return f"{metric}@{dim}_{precision}"


def is_quantised(name: str) -> bool:
    """Whether a score is one of quantised vectors."""
    return _NAME.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class SizeRow:
    """A score of one data set with vectors of `dim` dimensions in a precision; None: not defined.

    loss: of the score of all dimensions in fp32.
    """

    dataset: str
    metric: str
    dim: int
    precision: str
    score: float | None
    loss: float | None

    @property
    def num_bytes(self) -> int:
        """Of a stored vector."""
        return bytes_per_vector(self.dim, self.precision)

    def cells(self) -> tuple[str, ...]:
        """A line of a table with `COLUMNS`."""
        score, loss = ("—" if value is None else f"{value:.4f}" for value in (self.score, self.loss))
        return (self.dataset, self.metric, str(self.dim), self.precision, f"{self.num_bytes:,}", score, loss)


COLUMNS = ("data set", "metric", "dimensions", "precision", "bytes", "score", "loss")


def size_rows(results: Mapping[str, Mapping[str, float | None]]) -> list[SizeRow]:
    """The scores of every data set by dimension, the largest first, and precision; empty without quantised ones."""
    rows = []
    for dataset, metrics in results.items():
        found = [match for match in map(_NAME.fullmatch, metrics) if match]
        if not found:
            continue
        metric, dims = found[0][1], sorted({int(match[2]) for match in found}, reverse=True)
        whole = _known(metrics.get(metric))
        for dim in dims:
            plain_score = metrics.get(f"{metric}@{dim}") if dim < dims[0] else whole
            scores: dict[str, float | None] = {"fp32": plain_score}
            scores |= {name: metrics.get(quantised_name(metric, dim, name)) for name in QUANTISED}
            for precision, value in scores.items():
                score = _known(value)
                loss = None if whole is None or score is None else whole - score
                rows.append(SizeRow(dataset, metric, dim, precision, score, loss))
    return rows


def sizes_section(results: Mapping[str, Mapping[str, float | None]]) -> str:
    """The section of the model card; empty without scores of quantised vectors."""
    rows = size_rows(results)
    if not rows:
        return ""
    return "\n".join(["## Smaller vectors\n", _SECTION, table(COLUMNS, [tuple(map(plain, r.cells())) for r in rows])])


def _known(score: float | None) -> float | None:
    return None if score is None or score != score else score
