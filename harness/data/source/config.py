"""The keys of a recipe's task that say where its rows lie and how they are read."""

from __future__ import annotations

from pathlib import PurePath
from typing import Annotated

from pydantic import Field

from harness.data.source.columns.row_format import FORMATS
from harness.data.source.facts import IGNORE
from harness.types import TaskKind

SEVERAL = ("negative", IGNORE)  # the keys of `columns` that take several names
NO_IN_BATCH_NEGATIVES = "no_in_batch_neg"  # how FlagEmbedding's users end the names of such files and folders


Paths = str | Annotated[tuple[str, ...], Field(min_length=1)]
ColumnNames = dict[str, str | tuple[str, ...]]  # our name of a column to the files' name


def check_columns(place: str, kind: TaskKind, columns: ColumnNames, corpus: str | None) -> None:
    """Check that `columns` and `corpus` fit the kind of the task.

    place: how messages call the columns, `tasks.NAME.columns` or an option.

    Raises:
        ValueError: a column that the kind does not have, several names where one is read, or a corpus for another kind
            than retrieval.
    """
    names = {name for row_format in FORMATS if row_format.kind == kind for name in row_format.names}
    names |= {IGNORE, *(("label",) if kind == "retrieval" else ())}
    unknown = next((name for name in columns if name not in names), None)
    if unknown is not None:
        raise ValueError(
            f"{place}: got {unknown!r} with kind {kind}, expected our names of columns: {', '.join(sorted(names))}"
        )
    several = next((ours for ours, name in columns.items() if not isinstance(name, str) and ours not in SEVERAL), None)
    if several is not None:
        raise ValueError(
            f"{place}.{several}: got {len(columns[several])} names, expected one; only "
            f"{' and '.join(SEVERAL)} take a list"
        )
    if corpus is not None and kind != "retrieval":
        key = place.removesuffix("columns") + "corpus"
        raise ValueError(f"{key}: got one with kind {kind}, expected retrieval; remove the key")


def without_batch_negatives(path: str | tuple[str, ...]) -> str | None:
    """The path whose name tells FlagEmbedding that other queries' documents are no negatives; None if there is none."""
    paths = (path,) if isinstance(path, str) else path
    return next((one for one in paths if PurePath(one).name.split(".")[0].endswith(NO_IN_BATCH_NEGATIVES)), None)
