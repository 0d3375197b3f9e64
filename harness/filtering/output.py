"""Writes the kept rows and collects samples of dropped pairs. A kept row loses its dropped positives, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from harness.data.pseudo_random import mix64
from harness.data.source.facts import ReadSettings
from harness.data.source.files import BadRow, Row
from harness.data.source.formats import FormattedRow, read_formatted_rows
from harness.files import gzip_file, json_line, replace_file
from harness.filtering.pairs import PairTable, Verdicts
from harness.filtering.reasons import DROPPED, Reason
from harness.filtering.rows import pairs_of, with_positives

SAMPLES = 5  # per reason
_SHOWN_CHARACTERS = 200
_PROGRESS_ROWS = 10_000


@dataclass(frozen=True, slots=True)
class WrittenRows:
    """Facts about the written rows, for the report."""

    shortened_rows: int  # number of kept rows that lost some of their positives
    samples: dict[str, list[dict[str, Any]]]  # by reason: dropped pairs with line, texts and score


Source = tuple[str, str, ReadSettings]  # path, split, and how columns are called


def write_rows(
    out: Path, source: Source, table: PairTable, verdicts: Verdicts, progress: Callable[[int], None]
) -> WrittenRows:
    """Write the rows with at least one kept positive to `out` (.jsonl.gz), in the order of the source.

    Equal inputs give equal bytes.

    Raises:
        ValueError: the source has changed since it was read, or has a value that JSON cannot represent.
    """
    path, split, settings = source
    reason_P, score_P = verdicts.reason_P, verdicts.score_P
    start_R1 = np.searchsorted(table.row_P, np.arange(int(table.row_P[-1]) + 2))
    sampled_pairs = _samples(reason_P)
    samples: dict[str, list[dict[str, Any]]] = {reason.label: [] for reason in DROPPED}
    shortened = 0

    def write(stream: IO[bytes]) -> None:
        nonlocal shortened
        row = -1
        # The header has no file name and no modification time, so that the bytes depend on the rows only.
        with gzip_file(stream) as packed:
            for row, (line, raw) in enumerate(read_formatted_rows(path, split, "retrieval", settings)):
                if row + 1 >= len(start_R1):
                    break
                pairs = range(start_R1[row], start_R1[row + 1])
                for pair in sampled_pairs.intersection(pairs):
                    sample = _sample(line, raw, int(table.position_P[pair]), float(score_P[pair]))
                    samples[Reason(reason_P[pair]).label].append(sample)
                kept = [int(table.position_P[pair]) for pair in pairs if reason_P[pair] == Reason.KEPT]
                if kept and not isinstance(raw, BadRow):
                    shortened += len(kept) < len(pairs)
                    packed.write(_json_line(path, line, with_positives(raw, kept)))
                if row % _PROGRESS_ROWS == 0:
                    progress(row)
        _check_unchanged(path, row + 2 == len(start_R1))

    replace_file(out, write)
    progress(len(start_R1) - 1)
    return WrittenRows(shortened, {label: pairs for label, pairs in samples.items() if pairs})


def _check_unchanged(path: str, has_same_rows: bool) -> None:
    if not has_same_rows:
        raise ValueError(
            f"{path}: got another number of rows than at the first reading, expected a source that stays as it is; "
            "start again"
        )


def _samples(reason_P: np.ndarray) -> set[int]:
    """The numbers of up to SAMPLES dropped pairs for each reason, chosen pseudo-randomly."""
    chosen: set[int] = set()
    for reason in DROPPED:
        pair_E = np.flatnonzero(reason_P == reason)
        chosen.update(pair_E[np.argsort(mix64(pair_E, int(reason)), kind="stable")[:SAMPLES]].tolist())
    return chosen


def _sample(line: int, raw: FormattedRow | BadRow, position: int, score: float) -> dict[str, Any]:
    """What the report shows of a dropped pair. position: of the positive in its row."""
    row = pairs_of(line, raw)
    if isinstance(row, BadRow):
        return {"line": line, "problem": f"{row.field}: got {row.got}, expected {row.expected}"}
    sample: dict[str, Any] = {
        "line": line,
        "query": _shorten(row.query),
        "positive": _shorten(row.positives[position]),
    }
    return sample if np.isnan(score) else {**sample, "score": round(score, 4)}


def _shorten(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


def _json_line(path: str, line: int, row: Row) -> bytes:
    try:
        return json_line(row)
    except TypeError as error:
        raise ValueError(f"{path}:{line}: got {error}, expected values that JSON knows; remove this column") from error
