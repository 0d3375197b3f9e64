"""Opens files, compressed or not, and reads their lines as text."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import IO, Any

import pyarrow as pa

from harness.data.source.containers.rows import BadRow, broken_off

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


def read_lines(path: str) -> Iterator[tuple[int, str | BadRow]]:
    """Stream (line number from 1, text with its line end) of every line that is not blank.

    A line ends with a line feed; other characters that end a line elsewhere (U+2028) belong to the text.

    Raises:
        ValueError: the file ends before it is complete, or cannot be read.
    """
    for line, content in numbered_lines(path):
        if isinstance(content, BadRow) or content.strip():
            yield line, content


def numbered_lines(path: str) -> Iterator[tuple[int, str | BadRow]]:
    """As `read_lines`, with the blank lines."""
    line = 0
    try:
        with open_bytes(path) as stream:
            for line, raw in enumerate(stream, start=1):
                # Some editors put a byte order mark before the first line; it does not belong to the text.
                yield line, _decode(raw.removeprefix(_BYTE_ORDER_MARK) if line == 1 else raw)
    except READ_ERRORS as error:
        raise ValueError(broken_off(path, line + 1, error)) from error


def _decode(raw: bytes) -> str | BadRow:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return BadRow("row", f"byte 0x{raw[error.start]:02x} at byte {error.start + 1} of the line", "UTF-8")
