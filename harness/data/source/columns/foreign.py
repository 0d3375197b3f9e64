"""Turns rows of other trainers' formats into rows of ours, as those trainers read them, or says how to convert them.

- Tevatron (src/tevatron/retriever/dataset.py): `positive_passages`, `negative_passages` are lists of {title, text},
  joined as title + " " + text; `positive_document_ids`, `negative_document_ids` name documents of a corpus, of which
  the trainer reads `text` only.
- ms-swift (swift/template/base.py, `_embedding_encode`): `messages`, `positive_messages`, `negative_messages`; a system
  message stands before the text, with a blank (`Qwen3EmbTemplate`).
- FlagEmbedding (FlagEmbedding/abc/finetune/embedder/AbsDataset.py): `type`, `batch_size` and `train_group_size` of a
  file change its batches and prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from harness.data.source.containers.rows import BadRow, InvalidField, Row
from harness.settings.in_short import in_short
from harness.types import SourceKind

_MEDIA = ("images", "videos", "audios", "image", "video", "audio")


class Documents(Protocol):
    """The texts of a corpus by the ids of its documents."""

    def text(self, document_id: Any) -> str | None:
        """The text of a document; None if the corpus has no such id."""
        ...


@dataclass(frozen=True, slots=True)
class ForeignFormat:
    """The columns that `convert` reads; the first `required` of them must be there."""

    columns: tuple[str, ...]
    required: int
    convert: Callable[[Row, SourceKind, Documents | None], Row | BadRow]


def foreign_format(columns: Mapping[str, Any] | set[str], kind: SourceKind) -> ForeignFormat | None:
    """The foreign format that has these columns; None if they are of no such format."""
    if kind not in ("retrieval", "sts"):
        return None
    found = (known for known in FOREIGN_FORMATS if all(name in columns for name in known.columns[: known.required]))
    return next(found, None)


def convert(known: ForeignFormat, row: Row, kind: SourceKind, documents: Documents | None) -> Row | BadRow:
    """The row in a format of ours, its other columns unchanged; or why it cannot be used."""
    rest = {name: value for name, value in row.items() if name not in known.columns}
    try:
        converted = known.convert(row, kind, documents)
    except InvalidField as error:
        return error.bad_row
    return converted if isinstance(converted, BadRow) else rest | converted


def _passages(row: Row, kind: SourceKind, _: Documents | None) -> Row:
    sides = {"pos": "positive_passages", "neg": "negative_passages"}
    return {"query": row["query"], **{ours: _passage_texts(row.get(name) or [], name) for ours, name in sides.items()}}


def _passage_texts(passages: Any, field: str) -> list[Any]:
    _expect(passages, list, field, "a list of passages {title, text}")
    texts = []
    for i, passage in enumerate(passages):
        _expect(passage, dict, f"{field}[{i}]", "a passage {title, text}")
        title, text = passage.get("title"), passage.get("text")
        texts.append(text if title is None or not isinstance(text, str) else f"{title} {text}")
    return texts


def _documents_by_id(row: Row, kind: SourceKind, documents: Documents | None) -> Row | BadRow:
    media = next((name for name in row if name.removeprefix("query_") in _MEDIA and row[name] is not None), None)
    if media is not None:
        return BadRow(media, "a value", "text only")
    if documents is None:
        return BadRow(
            "positive_document_ids",
            "ids of documents",
            "the file with their texts (docid, text): name it in the recipe's task, corpus: PATH",
        )
    sides = {"pos": "positive_document_ids", "neg": "negative_document_ids"}
    converted: Row = {"query": row.get("query_text")}
    for ours, name in sides.items():
        ids = _expect(row.get(name) or [], list, name, "a list of ids")
        converted[ours] = [documents.text(document_id) for document_id in ids]
        if None in converted[ours]:
            missing = ids[converted[ours].index(None)]
            return BadRow(
                f"{name}[{converted[ours].index(None)}]", in_short(missing, quoted=True), "an id of the corpus"
            )
    return converted


def _messages(row: Row, kind: SourceKind, _: Documents | None) -> Row | BadRow:
    for name in row:
        if name.split("_")[-1] in _MEDIA and row[name]:
            return BadRow(name, "a value", "text only")
    system, query = _turn(row["messages"], "messages")
    system = row.get("system") if system is None else system
    positives = [_text_of(item, f"positive_messages[{i}]") for i, item in _sequences(row, "positive_messages")]
    negatives = [_text_of(item, f"negative_messages[{i}]") for i, item in _sequences(row, "negative_messages")]
    label = {"label": row["label"]} if row.get("label") is not None else {}
    if kind == "retrieval":
        prompt = {} if system is None else {"prompt": f"{system} "}
        return {"query": query, "pos": positives, "neg": negatives, **prompt, **label}
    if len(positives) != 1 or negatives or system is not None or not label:
        return BadRow("positive_messages", "no plain pair with a label", "one sequence, a label and no system message")
    return {"text1": query, "text2": positives[0], "score": row["label"]}


def _sequences(row: Row, field: str) -> list[tuple[int, Any]]:
    return list(enumerate(_expect(row.get(field) or [], list, field, "a list of lists of messages")))


def _text_of(messages: Any, field: str) -> Any:
    system, text = _turn(messages, field)
    return text if system is None else f"{system} {text}"


def _turn(messages: Any, field: str) -> tuple[str | None, Any]:
    """(the system message, the text) of a sequence of messages."""
    expected = "a list with one message {role, content}, after at most one of role system"
    _expect(messages, list, field, expected)
    for message in messages:
        _expect(message, dict, field, expected)
    system = [message.get("content") for message in messages if message.get("role") == "system"]
    texts = [message.get("content") for message in messages if message.get("role") != "system"]
    if len(texts) != 1 or len(system) > 1:
        raise InvalidField(field, f"{len(messages)} messages", expected)
    return (system[0] if system else None), texts[0]


def _expect(value: Any, expected_type: type, field: str, expected: str) -> Any:
    if not isinstance(value, expected_type):
        raise InvalidField(field, f"{type(value).__name__} {in_short(value, quoted=True)}", expected)
    return value


FOREIGN_FORMATS = (
    ForeignFormat(("query", "positive_passages", "negative_passages"), 2, _passages),
    ForeignFormat(("query_text", "positive_document_ids", "negative_document_ids"), 2, _documents_by_id),
    ForeignFormat(("messages", "positive_messages", "negative_messages", "system", "label"), 2, _messages),
)

FLAG_EMBEDDING_SETTINGS = ("type", "batch_size", "train_group_size")
_SYMMETRIC_ROLES = ("symmetric_sts", "symmetric_clustering")


def check_flag_embedding(place: str, row: Row) -> None:
    """Stop at settings that FlagEmbedding's trainer takes from the rows: a recipe says them itself.

    Raises:
        ValueError: names the column, what FlagEmbedding does with it, and the keys of the recipe that do the same.
    """
    kind, remedy = row.get("type"), ""
    if kind in _SYMMETRIC_ROLES:
        remedy = "prompts: {query: P, document: P} (the prompt stands on both sides) and half the quota"
    elif isinstance(kind, str) and "symmetric" in kind:
        remedy = "half the quota, and negatives.per_query up to the texts of neg"
    elif kind == "only_1neg":
        remedy = "negatives: {per_query: 1}"
    column = "type" if remedy else ""
    if not remedy and isinstance(row.get("batch_size"), int):
        column, remedy = "batch_size", f"quota: {in_short(row['batch_size'])} times the number of GPUs"
    elif not remedy and isinstance(row.get("train_group_size"), int) and row["train_group_size"] > 0:
        column, remedy = "train_group_size", f"negatives: {{per_query: {in_short(row['train_group_size'] - 1)}}}"
    if column:
        raise ValueError(
            f"{place}: {column}: got {in_short(row[column], quoted=True)}, a setting of FlagEmbedding's trainer, "
            f"expected it in the recipe: a task of its own with {remedy}; then columns: {{ignore: [{column}]}} leaves "
            "the column out"
        )
