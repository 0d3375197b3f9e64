"""Decides what each column of a row is used for: read, listed as not used, or refused because its meaning is not plain.

Nothing is passed over silently. A column whose name is near the name of one that is read stops the reading, unless the
recipe's `columns` say what it is.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.data.source.columns.row_format import RowFormat
from harness.data.source.containers.rows import Row
from harness.settings.in_short import in_short
from harness.types import SourceKind

_NUMBERED = re.compile(r"(?P<name>neg|negative|hard_negative|rejected)_?(?P<number>\d+)")
_NEGATIVE_NAMES = (
    *("neg", "negs", "negative", "negatives", "hard_neg", "hard_negs", "hard_negative", "hard_negatives"),
    *("rejected", "rejected_response", "rejected_responses"),
)
_POSITIVE_SCORE_NAMES = ("pos_scores", "positive_scores", "scores", "score")
_NEGATIVE_SCORE_NAMES = ("neg_scores", "negative_scores")
_LABEL_NAMES = ("label", "labels")
# A column with one of these words in its name would change what is learned, if it were what it seems to be.
_TELLING_WORDS = {
    **dict.fromkeys(("neg", "negs", "negative", "negatives", "distractor", "distractors"), "negative"),
    **dict.fromkeys(("pos", "positive", "positives"), "positive"),
    **dict.fromkeys(("prompt", "prompts", "instruction", "instructions", "instruct"), "prompt"),
}
_JUDGEMENTS = frozenset(
    ("relevance", "relevant", "is_relevant", "rel", "similarity", "sim", "grade", "is_positive", "is_duplicate")
)
_ABOUT_A_TEXT = re.compile(
    r".*(^|[^a-z])(ids?|url|urls|titles?|source|rank|ranks|index|length|count|type|domain)|.*ids?"
)
# A column of these names belongs to another format than the one that fits, so to map it would not make it read.
_OF_OTHER_FORMATS = frozenset(("score", "text1", "text2", "sentence1", "sentence2", "anchor", "response", "chosen"))
_CLOSE = 0.8  # difflib's ratio from which two names are near each other: positivve, negattive


@dataclass(frozen=True, slots=True)
class Layout:
    """What the columns of a row are used for; rows with the same columns share it.

    row_format: names the columns as the file does. label: the column that says which texts are positives. watched: by
    column, our name of what it may be; a value that can be that stops the reading. used: the columns that are read.
    """

    row_format: RowFormat
    label: str | None
    watched: Mapping[str, str]
    used: tuple[str, ...]


def layout_of(
    names: Mapping[str, str], extra_negatives: Sequence[str], row_format: RowFormat, known: set[str]
) -> Layout:
    """What each column is used for.

    names: our name of a column to the file's. extra_negatives: columns that the recipe maps to `negative`. row_format:
    names columns by our names. known: our names of the columns of every format of this kind.
    """
    free = [name for name in names if name not in row_format.required]
    if row_format.kind == "retrieval":
        optional, label = _of_retrieval(free, names)
        negatives = tuple(names.get(name, name) for name in dict.fromkeys([*_negatives(free), *extra_negatives]))
    else:
        optional, label, negatives = {"title": next((n for n in free if n == row_format.title), None)}, None, ()
    changes: dict[str, Any] = {key: names[name] if name else None for key, name in optional.items()}
    ours = [*row_format.required, *(name for name in (*optional.values(), label) if name)]
    used = tuple(dict.fromkeys([*(names[name] for name in ours), *negatives]))
    near = {column: _nearest(name, known, row_format.kind) for name, column in names.items()}
    return Layout(
        replace(
            row_format,
            texts=tuple(names[name] for name in row_format.texts),
            positive=names.get(row_format.positive or "", None),
            target=names.get(row_format.target or "", None),
            negatives=negatives,
            **changes,
        ),
        names[label] if label else None,
        {column: role for column, role in near.items() if role is not None and column not in used},
        used,
    )


def _of_retrieval(free: Sequence[str], names: Mapping[str, str]) -> tuple[dict[str, str | None], str | None]:
    """(our name of the column for the prompt and for the scores of each side, our name of the column of labels)."""
    label = next((name for name in _LABEL_NAMES if name in names), None)
    # Beside a label, a single score is a second judgement: it is not read, and its name stops the reading.
    score_names = _POSITIVE_SCORE_NAMES if label is None else _POSITIVE_SCORE_NAMES[:-1]
    optional = {
        "prompt": "prompt" if "prompt" in free else None,
        "positive_scores": next((name for name in score_names if name in free), None),
        "negative_scores": next((name for name in _NEGATIVE_SCORE_NAMES if name in free), None),
    }
    return optional, label


def _negatives(names: Sequence[str]) -> list[str]:
    """The columns that hold negatives: those without a number, then the numbered ones in the order of their numbers."""
    plain = [name for name in names if name in _NEGATIVE_NAMES]
    numbered = [(int(match["number"]), name) for name in names if (match := _NUMBERED.fullmatch(name))]
    return [*plain, *(name for _, name in sorted(numbered))]


def _nearest(name: str, known: set[str], kind: SourceKind) -> str | None:
    """Our name of what a column may be by its name; None if it says nothing that would be read."""
    lower = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()
    if lower in known:
        return "pos_scores" if (lower, kind) == ("score", "retrieval") else lower
    if kind == "retrieval":
        if lower in _JUDGEMENTS:
            return "label"
        if _ABOUT_A_TEXT.fullmatch(lower):
            return None
        words = set(re.split(r"[^a-z]+", lower))
        if words & {"relevance", "relevant"} and not words & {"score", "scores"}:  # relevance_label, human_relevance
            return "label"
        telling = [_TELLING_WORDS[word] for word in re.split(r"[^a-z]+", lower) if word in _TELLING_WORDS]
        if telling:
            return telling[0]
    return next(iter(difflib.get_close_matches(lower, sorted(known), 1, _CLOSE)), None)


def check_watched(place: str, row: Row, layout: Layout) -> None:
    """Stop at a value that may be what the name of its column says.

    Raises:
        ValueError: names the column and the two ways to go on.
    """
    for column, role in layout.watched.items():
        if _could_be(row.get(column), role):
            shown = in_short(column)
            reads = f"columns: {{{role}: {shown}}} reads it, "
            if column == role or layout.row_format.kind != "retrieval" or role in _OF_OTHER_FORMATS:
                reads = "prompts: {query: ...} stands before all texts, " if role == "prompt" else ""
            raise ValueError(
                f"{place}: {shown}: got a column that is not read but may hold the {role}, expected a plain name; in "
                f"the recipe's task, {reads}columns: {{ignore: [{shown}]}} leaves it out, as does --columns "
                f"ignore={shown} in mine and filter"
            )


def _could_be(value: Any, role: str) -> bool:
    if value is None or value == "" or value == []:
        return False
    if role in ("label", "labels", "score") or role.endswith("scores"):
        return True
    items = value if isinstance(value, list) else [value]
    return any(isinstance(item, str | list | dict) for item in items)
