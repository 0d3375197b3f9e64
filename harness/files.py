"""Writes files and folders so that a kill or a power cut leaves the old content or the new one, never a part of it.

Sizes and hashes tell later whether they still hold what was written.
"""

from __future__ import annotations

import gzip
import itertools
import json
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import xxhash

_UNFINISHED = ".unfinished"
_HASHING_THREADS, _HASHED_BYTES = 4, 1 << 20  # hashing lets other threads run; a block stays in a core's cache
_LEAST_FREE_BYTES = 1_000_000  # for what is small: metrics, tables, the report


def sync(path: Path) -> None:
    """Flush the content of a file, or the list of names in a folder, to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def replace_file(path: Path, content: str | Callable[[IO[bytes]], Any]) -> None:
    """Replace the content of a file atomically: a reader sees the complete old content or the complete new content.

    content: the text, or a function that writes the bytes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with unfinished.open("wb") as stream:
        if isinstance(content, str):
            stream.write(content.encode())
        else:
            content(stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(unfinished, path)
    sync(path.parent)


def json_line(row: Any) -> bytes:
    """A line of JSON, in UTF-8; a lone surrogate, which UTF-8 cannot encode, is escaped.

    Raises:
        TypeError: a value that JSON does not know.
    """
    try:
        return f"{json.dumps(row, ensure_ascii=False)}\n".encode()
    except UnicodeEncodeError:
        return f"{json.dumps(row)}\n".encode()


def gzip_file(stream: IO[bytes]) -> gzip.GzipFile:
    """Packs into `stream`; without a name and a time in its header, so that equal content gives equal bytes."""
    return gzip.GzipFile(filename="", mode="wb", fileobj=stream, mtime=0, compresslevel=6)


def create_once(path: Path, create: Callable[[Path], None]) -> None:
    """Create a file or a folder under another name and move it to `path` when it is complete; do nothing if it exists.

    create: called with the path to write to. Only one process at a time may call `create_once` for a path.
    """
    if path.exists():
        return
    unfinished = path.with_name(f".{path.name}")
    shutil.rmtree(unfinished, ignore_errors=True)  # left by a start that was killed
    path.parent.mkdir(parents=True, exist_ok=True)
    create(unfinished)
    written = (*unfinished.iterdir(), unfinished) if unfinished.is_dir() else (unfinished,)
    for written_path in written:
        sync(written_path)
    os.replace(unfinished, path)
    sync(path.parent)


@contextmanager
def unfinished_folder(path: Path) -> Iterator[Path]:
    """The path of a folder beside `path`, not yet made, that nobody else uses; removed in the end if it still exists.

    The name is another one every time, because beside `path` may lie what is not ours. See `remove_unfinished`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_UNFINISHED}")
    try:
        yield unfinished
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def remove_unfinished(path: Path) -> None:
    """Remove what killed starts have left of `unfinished_folder(path)`. Only in a folder of ours."""
    for folder in path.parent.glob(f".{path.name}.????????{_UNFINISHED}"):
        shutil.rmtree(folder, ignore_errors=True)


def replace_folder(complete: Path, path: Path) -> Path | None:
    """Give the complete folder the name `path`. An earlier folder of this name leaves only after that.

    An earlier one with files whose names the new one lacks is kept, under another name, which is returned: somebody
    else may have put them there. If `path` is a link, the link is replaced, and what it leads to stays.
    """
    for file in complete.rglob("*"):
        sync(file)
    aside = None
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        aside = _free_name(path)
        path.rename(aside)
    complete.rename(path)
    sync(path.parent)
    if aside is None or _names(aside) - _names(path):
        return aside
    shutil.rmtree(aside)
    return None


def _free_name(path: Path) -> Path:
    names = (path.with_name(f"{path.name}.earlier-{number}") for number in itertools.count(1))
    return next(name for name in names if not name.exists())


def _names(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob("*")}


def check_output(path: Path, knob: str, num_bytes: int = 0, *, is_file: bool = False) -> None:
    """Check, before any work, that a file or folder can be written at `path`, and that the disk has room for it.

    knob: names the setting or option in the message. num_bytes: what will be written at least.

    Raises:
        ValueError: a part of the path is a file, the folder cannot be written to, or the disk is too full.
    """
    if "\0" in str(path):
        raise ValueError(f"{knob}: got {str(path)!r}, expected a name without NUL; name another place")
    folder = path.absolute().parent if is_file else path.absolute()
    above = folder
    try:
        if is_file and _is_there(path) and path.is_dir():
            raise ValueError(f"{knob}: got {path}, a folder, expected the path of a file; name a file in it")
        above = next(place for place in (folder, *folder.parents) if _is_there(place))
        if not above.is_dir():
            raise ValueError(f"{knob}: got {path}, but {above} is a file, expected a folder; name another place")
        with tempfile.TemporaryFile(dir=above):
            pass
        free = shutil.disk_usage(above).free
    except OSError as error:
        raise ValueError(
            f"{knob}: got {path}, but {above} cannot be written to ({error.strerror or error}), expected a folder that "
            "can; change its permissions or name another place"
        ) from None
    if free < max(num_bytes, _LEAST_FREE_BYTES):
        raise ValueError(
            f"{knob}: got {path} on a disk with {_gigabytes(free)} free, expected room for at least "
            f"{_gigabytes(max(num_bytes, _LEAST_FREE_BYTES))}; free some, or name a place on another disk"
        )


def _is_there(place: Path) -> bool:
    """Whether the path exists. Unlike Path.exists of Python 3.14 it does not take "cannot be looked at" for "no".

    Raises:
        OSError: it cannot be known, as of a name that is too long.
    """
    try:
        place.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def sizes_and_hashes(folder: Path, files: Iterable[Path]) -> dict[str, tuple[int, str]]:
    """Path relative to `folder` → (bytes, XXH3-128 of the content), of files in it or elsewhere."""
    return {os.path.relpath(path, folder): _size_and_hash(path) for path in files}


def find_changes(folder: Path, expected: Mapping[str, Any]) -> str | None:
    """What is no longer as `sizes_and_hashes` has found it, in words; None if all is. Several files are read at a time.

    expected: read from a file, so it may hold anything.
    """
    for name, entry in expected.items():
        if not (isinstance(entry, list | tuple) and len(entry) == 2):
            return f"{name}: got no size and hash of it"
        if not os.path.isfile(folder / name):  # False also for a name that no file system takes
            return f"{name} is missing"
        if (folder / name).stat().st_size != entry[0]:
            return f"{name}: got {(folder / name).stat().st_size} bytes, expected {entry[0]}"
    with ThreadPoolExecutor(_HASHING_THREADS) as threads:
        found = threads.map(lambda name: _size_and_hash(folder / name)[1], expected)
        changed = [name for name, digest in zip(expected, found, strict=True) if digest != expected[name][1]]
    return f"{changed[0]}: got other bytes than were written" if changed else None


def _size_and_hash(path: Path) -> tuple[int, str]:
    digest, block = xxhash.xxh3_128(), memoryview(bytearray(_HASHED_BYTES))
    with path.open("rb", buffering=0) as stream:
        while count := stream.readinto(block):
            digest.update(block[:count])
    return path.stat().st_size, digest.hexdigest()


def folder_size(folder: Path) -> int:
    """Bytes of all files in a folder and below; 0 if it does not exist."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())


def _gigabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:,.3f} GB" if num_bytes < 1e9 else f"{num_bytes / 1e9:,.1f} GB"
