"""Arrays in .npy files that need not fit in memory: written in pieces, and read through a memory map."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy_format
from numpy.typing import ArrayLike, DTypeLike


class ArrayFile:
    """Appends to a one-dimensional .npy file; `close` writes the final length into the header."""

    def __init__(self, path: Path, dtype: str) -> None:
        self.dtype = np.dtype(dtype)
        self._length = 0
        self._stream = path.open("wb")
        self._write_header()
        self._header_size = self._stream.tell()

    def __enter__(self) -> ArrayFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def append(self, values: ArrayLike) -> None:
        """Write values at the end."""
        array = np.asarray(values, dtype=self.dtype)
        self._stream.write(array.tobytes())
        self._length += len(array)

    def close(self) -> None:
        """Write the final length; the file can be opened with `open_array` from now on."""
        self._stream.seek(0)
        self._write_header()
        assert self._stream.tell() == self._header_size, "numpy pads headers for growth of the first axis"
        self._stream.close()

    def _write_header(self) -> None:
        header: dict[str, Any] = {
            "descr": npy_format.dtype_to_descr(self.dtype),
            "fortran_order": False,
            "shape": (self._length,),
        }
        npy_format.write_array_header_1_0(self._stream, header)


def open_array(path: Path) -> np.ndarray:
    """The array of a .npy file, memory-mapped and read-only."""
    return np.load(path, mmap_mode="r", allow_pickle=False)


def create_array(path: Path, dtype: DTypeLike, shape: tuple[int, ...]) -> np.memmap:
    """A new .npy file of known shape, memory-mapped for writing.

    Raises:
        OSError: the disk has no room for it; without this check, writing to the map would kill the process.
    """
    array = npy_format.open_memmap(path, mode="w+", dtype=np.dtype(dtype), shape=shape)
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)
    return array
