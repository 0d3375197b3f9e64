"""Reads JSON lines, and files that hold one JSON list of objects."""

from __future__ import annotations

import codecs
import json
from collections import Counter
from collections.abc import Iterator
from typing import IO, Any

from harness.data.source.containers.lines import READ_ERRORS, Lines, open_bytes, read_lines
from harness.data.source.containers.rows import BadRow, Row, Rows, broken_off
from harness.settings.in_short import in_short

_CHUNK_BYTES = 1 << 20
_BLANK = " \t\r\n"
_ONE_OBJECT_PER_LINE = "one JSON object per line"


def json_line_rows(path: str, part: Lines | None = None) -> Rows:
    """One JSON object per line. part: lines of the file that were read already."""
    for line, content in read_lines(path, part):
        yield line, content if isinstance(content, BadRow) else _parse(content)


def json_rows(path: str) -> Rows:
    """One JSON object per line, or one list of JSON objects, whose first one has number 1."""
    return _list_rows(path) if is_one_list(path) else line_rows_of_json(path)


def is_one_list(path: str) -> bool:
    """Whether a JSON file begins a list.

    Raises:
        ValueError: the file cannot be read.
    """
    try:
        with open_bytes(path) as stream:
            start = stream.read(_CHUNK_BYTES).removeprefix(codecs.BOM_UTF8).lstrip()[:1]
    except READ_ERRORS as error:
        raise ValueError(broken_off(path, 1, error)) from error
    return start == b"["


def line_rows_of_json(path: str, part: Lines | None = None) -> Rows:
    """As `json_line_rows`; an object over several lines, or with the rows under a key, is refused with the remedy."""
    for line, row in json_line_rows(path, part):
        broken = isinstance(row, BadRow) and row.got.startswith("broken JSON")
        lists = [] if isinstance(row, BadRow) else [key for key, value in row.items() if _is_list_of_objects(value)]
        if line == 1 and (broken or (isinstance(row, dict) and len(row) == 1 and lists)):
            got = f"an object with the rows under {lists[0]!r}" if lists else "what is not one JSON object per line"
            raise ValueError(
                f"{path}:{line}: row: got {got}, expected {_ONE_OBJECT_PER_LINE}, or one list of objects; write the "
                "list itself, or one object per line"
            )
        yield line, row


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value[:2])


def _list_rows(path: str) -> Rows:
    number = 0
    try:
        with open_bytes(path) as stream:
            for number, item in enumerate(_items(stream), start=1):
                yield number, item if isinstance(item, dict) else _no_object(item, "objects in the list")
    except _RepeatedKeyError as error:
        raise ValueError(_twice(error).message(path, number + 1)) from error
    except (*READ_ERRORS, ValueError, RecursionError) as error:  # also a number of thousands of digits
        raise ValueError(broken_off(path, number + 1, error)) from error


def _items(stream: IO[bytes]) -> Iterator[Any]:
    """The items of a JSON list, one at a time: memory does not grow with the list.

    Raises:
        json.JSONDecodeError: the list is broken, or ends too early.
    """
    decode, incremental = (
        json.JSONDecoder(object_pairs_hook=_with_each_key_once).raw_decode,
        codecs.getincrementaldecoder("utf-8-sig")(),
    )
    buffer, position, ended, opened = "", 0, False, False
    while True:
        while position < len(buffer) and buffer[position] in _BLANK:
            position += 1
        if position < len(buffer) and not opened:
            opened, position = True, position + 1  # the "[" that the caller has seen
            continue
        if position < len(buffer) and buffer[position] == "]":
            _expect_nothing_more(buffer[position + 1 :] + incremental.decode(stream.read(), final=True))
            return
        if position < len(buffer) and buffer[position] == ",":
            position += 1
            continue
        try:
            item, end = decode(buffer, position)
            if end == len(buffer) and not ended:
                raise json.JSONDecodeError("unfinished", buffer, end)  # a number may go on in the next chunk
        except json.JSONDecodeError:
            if ended:
                raise
            raw = stream.read(max(_CHUNK_BYTES, len(buffer)))
            buffer, position, ended = buffer[position:] + incremental.decode(raw, final=not raw), 0, not raw
            continue
        yield item
        position = end


def _expect_nothing_more(text: str) -> None:
    if text.strip():
        raise json.JSONDecodeError("text after the list", text, 0)


def _parse(text: str) -> Row | BadRow:
    """The JSON object on one line, or a BadRow that says why the line is not a JSON object."""
    try:
        row = json.loads(text) if text.startswith("\ufeff") else _DECODER.decode(text)  # loads explains the mark
    except _RepeatedKeyError as error:
        return _twice(error)
    except json.JSONDecodeError as error:
        return BadRow("row", f"broken JSON ({error.msg} at column {error.pos + 1})", _ONE_OBJECT_PER_LINE)
    except (ValueError, RecursionError) as error:  # a number with thousands of digits; thousands of nested brackets
        return BadRow("row", f"JSON that cannot be read ({type(error).__name__})", _ONE_OBJECT_PER_LINE)
    return row if isinstance(row, dict) else _no_object(row, _ONE_OBJECT_PER_LINE)


class _RepeatedKeyError(ValueError):
    """An object of a JSON file has a key twice; json would keep the last value only."""


def _twice(error: _RepeatedKeyError) -> BadRow:
    return BadRow("row", f"the key {error} twice", "every key once")


def _with_each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise _RepeatedKeyError(in_short(repeated, quoted=True))
    return found


def _no_object(value: Any, expected: str) -> BadRow:
    return BadRow("row", f"a JSON {type(value).__name__}", expected)


_DECODER = json.JSONDecoder(object_pairs_hook=_with_each_key_once)
