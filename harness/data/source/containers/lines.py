"""Opens files, compressed or not, and reads their lines as text."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any

import pyarrow as pa

from harness.data.source.containers.rows import BadRow, broken_off
from harness.settings.other_encoding import instead_of_utf8

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def _open_zstandard(path: str, mode: str) -> Any:
    return io.BufferedReader(pa.input_stream(path, compression="zstd"))


OPENER_OF_SUFFIX: dict[str, Callable[[str, str], Any]] = {
    "": open,
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _open_zstandard,
}
READ_ERRORS = (EOFError, OSError, zlib.error, lzma.LZMAError, pa.ArrowException)


def open_bytes(path: str) -> IO[bytes]:
    """Open a file to read bytes; .gz, .bz2, .xz and .zst are decompressed."""
    suffix = next((suffix for suffix in OPENER_OF_SUFFIX if suffix and path.endswith(suffix)), "")
    return OPENER_OF_SUFFIX[suffix](path, "rb")


@dataclass(frozen=True, slots=True)
class Lines:
    """Whole lines of a file, line ends included; the first of them has the number `first`."""

    first: int
    content: bytes
    stop: int  # the number of the line after the last


def read_lines(path: str, part: Lines | None = None) -> Iterator[tuple[int, str | BadRow]]:
    """Stream (line number from 1, text with its line end) of every line that is not blank.

    A line ends with a line feed; other characters that end a line elsewhere (U+2028) belong to the text. part: lines of
    the file that were read already; None: all of them.

    Raises:
        ValueError: the file ends before it is complete, or cannot be read.
    """
    for line, content in numbered_lines(path, part):
        if isinstance(content, BadRow) or content.strip():
            yield line, content


def numbered_lines(path: str, part: Lines | None = None) -> Iterator[tuple[int, str | BadRow]]:
    """As `read_lines`, with the blank lines."""
    for line, raw in _raw_lines(path) if part is None else enumerate(io.BytesIO(part.content), part.first):
        # Some editors put a byte order mark before the first line; it does not belong to the text.
        yield line, _decode(raw.removeprefix(_BYTE_ORDER_MARK) if line == 1 else raw)


def _raw_lines(path: str) -> Iterator[tuple[int, bytes]]:
    line = 0
    try:
        with open_bytes(path) as stream:
            for line, raw in enumerate(stream, start=1):
                yield line, raw
    except READ_ERRORS as error:
        raise ValueError(broken_off(path, line + 1, error)) from error


def parts_of_lines(path: str, num_bytes: int) -> Iterator[Lines]:
    """The lines of a file in parts of about `num_bytes`. If it breaks off, the whole lines before that come first.

    Raises:
        ValueError: as `read_lines`.
    """
    gathered: list[bytes] = []
    size, stop = 0, 1
    lines = _raw_lines(path)
    while True:
        problem: ValueError | None = None
        try:
            line, raw = next(lines, (stop, b""))
        except ValueError as error:
            raw, problem = b"", error
        if raw:
            gathered.append(raw)
            size, stop = size + len(raw), line + 1
        if gathered and (not raw or size >= num_bytes):
            yield Lines(stop - len(gathered), b"".join(gathered), stop)
            gathered, size = [], 0
        if problem is not None:
            raise problem
        if not raw:
            return


def _decode(raw: bytes) -> str | BadRow:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        got = f"byte 0x{raw[error.start]:02x} at byte {error.start + 1} of the line"
        return BadRow("row", got, f"UTF-8{instead_of_utf8(raw)}")
