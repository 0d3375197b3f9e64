"""Opens a teacher's vectors, and finds those of the texts that a step has drawn."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xxhash

from harness import comm, rank0
from harness.data.config import TaskConfig
from harness.data.table.index import TaskData
from harness.data.table.npy import open_array
from harness.loss_table import LOSSES
from harness.types import TeacherRows

_CHUNK_BYTES = 1 << 26


@dataclass(frozen=True, slots=True)
class TeacherVectors:
    """A teacher's vectors of all texts of a task, memory-mapped; row e of a side is its e-th text in the data."""

    query_RV: np.ndarray
    positive_EV: np.ndarray
    negative_EV: np.ndarray | None
    num_positives_before_R: np.ndarray  # int64, in the rows before
    fingerprint: str  # hash of the files' content

    @property
    def dim(self) -> int:
        """The dimensions of a vector."""
        return int(self.query_RV.shape[1])

    def of(self, data: TaskData, row_B: np.ndarray, positive_BP: np.ndarray, negative_BM: np.ndarray) -> TeacherRows:
        """The vectors of drawn examples. positive_BP, negative_BM: text ids of `data`, -1 padded."""
        first_B = np.asarray(data.row_start_R1[row_B], dtype=np.int64) + 1  # the first positive's text id
        before_B = self.num_positives_before_R[row_B]
        positive_EV, negative_BMV = self.positive_EV, None
        place_BP = np.where(positive_BP >= 0, positive_BP - first_B[:, None] + before_B[:, None], 0)
        if self.negative_EV is not None:
            first_negative_B = first_B + data.num_positives_R[row_B]
            # Text ids before a row's negatives: all texts of earlier rows, of which one a row is a query.
            negatives_before_B = first_B - 1 - row_B - before_B
            place_BM = negative_BM - first_negative_B[:, None] + negatives_before_B[:, None]
            negative_BMV = _rows(self.negative_EV, np.where(negative_BM >= 0, place_BM, 0))
        return TeacherRows(self.query_RV[row_B], positive_EV[place_BP], negative_BMV)


def _rows(vector_EV: np.ndarray, place_BM: np.ndarray) -> np.ndarray:
    if not len(vector_EV):  # no row has a negative: all places are padding
        return np.zeros((*place_BM.shape, vector_EV.shape[1]), dtype=vector_EV.dtype)
    return vector_EV[place_BM]


def open_teacher(task: TaskConfig, data: TaskData, files: dict[str, str]) -> TeacherVectors:
    """Memory-map the vectors of a task and check all of them. Every rank must call it; one of each host reads them.

    files: side → where the file of `task.teacher_vectors` lies.

    Raises:
        ValueError: a file is no such array, has other vectors than the data has texts, or a vector has no direction.
    """
    where = f"tasks.{task.name}.teacher_vectors"
    if data.bad_rows:
        raise ValueError(
            f"{where}: got data with {data.bad_rows} rows left out (data.on_bad_row: skip), expected a vector for "
            "every text that is read, in its order; repair the data"
        )
    num_positives = int(np.sum(data.num_positives_R, dtype=np.int64))
    counts = {"query": data.num_rows, "positive": num_positives}
    counts["negative"] = data.num_texts - data.num_rows - num_positives
    sides = {side: _open(f"{where}.{side}", file, counts[side]) for side, file in files.items()}
    widths = {side: vectors.shape[1] for side, vectors in sides.items()}
    if len(set(widths.values())) > 1:
        raise ValueError(f"{where}: got vectors of {_shown(widths)} dimensions, expected as many on every side")

    def read_all() -> str | None:
        return "".join(_check(f"{where}.{side}", vectors) for side, vectors in sides.items())

    found = {hashes for hashes in rank0.by_each(lambda: read_all() if comm.local_rank() == 0 else None) if hashes}
    if len(found) > 1:
        raise ValueError(
            f"{where}: got other vectors on some hosts, expected the same files everywhere; copy them anew"
        )
    (fingerprint,) = found
    before_R = np.cumsum(data.num_positives_R, dtype=np.int64) - data.num_positives_R
    return TeacherVectors(sides["query"], sides["positive"], sides.get("negative"), before_R, fingerprint)


def check_dimensions(task: TaskConfig, vectors: TeacherVectors | None, dim: int) -> None:
    """Check that a task's teacher has as many dimensions as the model, if a loss compares them one by one.

    Raises:
        ValueError: it has more or fewer.
    """
    loss = next((name for name in task.losses if LOSSES[name].needs_equal_dimensions), None)
    if vectors is None or loss is None or vectors.dim == dim:
        return
    others = [
        name for name, entry in LOSSES.items() if entry.needs_teacher_vectors and not entry.needs_equal_dimensions
    ]
    raise ValueError(
        f"tasks.{task.name}.teacher_vectors: got vectors of {vectors.dim} dimensions with loss {loss} and a model of "
        f"{dim}, expected equal ones; set model.projection_dim: {vectors.dim}, or loss: {others[0]}, which takes any"
    )


def _open(key: str, file: str, count: int) -> np.ndarray:
    try:
        vectors = open_array(Path(file))
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(
            f"{key}: got {file} ({type(error).__name__}), expected a .npy file of numpy.save with a row of numbers for "
            "every text"
        ) from error
    if vectors.ndim != 2 or vectors.dtype.kind != "f" or not vectors.shape[1]:
        raise ValueError(
            f"{key}: got {file} with {vectors.dtype} of shape {list(vectors.shape)}, expected floating-point numbers "
            f"of shape [{count}, dimensions]"
        )
    if len(vectors) != count:
        raise ValueError(
            f"{key}: got {file} with {len(vectors):,} vectors, expected {count:,}, one for every text of this side in "
            "the order of the data"
        )
    return vectors


def _check(key: str, vectors: np.ndarray) -> str:
    """The hash of the vectors, all of which must have a direction."""
    hasher = xxhash.xxh3_128(str((vectors.dtype, vectors.shape)).encode())
    rows = max(1, _CHUNK_BYTES // (vectors.itemsize * vectors.shape[1]))
    for start in range(0, len(vectors), rows):
        chunk = np.ascontiguousarray(vectors[start : start + rows])
        hasher.update(chunk.data)
        with np.errstate(over="ignore"):  # told in a line below
            norm = np.linalg.norm(chunk.astype(np.float32), axis=1)
        bad = np.flatnonzero(~(np.isfinite(norm) & (norm > 0)))
        if len(bad):
            vector_D = chunk[bad[0]]
            what = "a length that float32 cannot hold"
            if not np.isfinite(vector_D).all():
                what = "a number that is not finite"
            elif not vector_D.any():
                what = "zeros"
            raise ValueError(
                f"{key}: got {what} in vector {start + bad[0]:,} (from 0), expected a vector with a direction"
            )
    return hasher.hexdigest()


def _shown(widths: dict[str, int]) -> str:
    return ", ".join(f"{width} ({side})" for side, width in widths.items())
