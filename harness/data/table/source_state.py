"""Tells by its content which version of a source this is, and reads a file for that only if it may have changed.

The hash of a file's content is kept in CACHE/sources/, under a name that depends on the file's path, size, times and
inode. The kernel sets the time of the last change (ctime) at every write, and no program can set it back. So another
file of equal size and modification time, put in the place of the first, is read; a file that nobody touched is not.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import xxhash
from filelock import FileLock

from harness.data.source.shards import source_files
from harness.files import replace_file, sizes_and_hashes

# A clock of files may stand still for some milliseconds. The hash of a file that was changed within this time is not
# kept: it might be changed again at the same time.
_SETTLED_SECONDS = 2.0
Stamp = tuple[str, int, int, int, int]  # path, bytes, mtime and ctime in ns, inode


@dataclass(frozen=True)
class SourceState:
    """Path, size and content of a source. digest: XXH3-128; of a folder, over the names and digests of its files."""

    path: str
    is_file: bool
    size: int
    digest: str | None  # None: a hub name


def states_of(path: str | Sequence[str], split: str, corpus: str | None, cache: Path) -> list[SourceState]:
    """The state of every file of a source, and of the corpus whose documents it names.

    Of several processes that call this together, one reads a file and the others wait. cache: the cache folder.
    """
    return [_state_of(source, cache) for source in _sources(path, split, corpus)]


def stamps_of(path: str | Sequence[str], split: str, corpus: str | None) -> list[Stamp]:
    """What tells, without reading, that a file of the source has changed since another call of this function."""
    return [_stamp(file) for source in _sources(path, split, corpus) for file in _files(Path(source))]


def _sources(path: str | Sequence[str], split: str, corpus: str | None) -> Iterator[str]:
    yield from source_files(path, split)
    if corpus is not None:
        yield from source_files(corpus, split)


def _state_of(path: str, cache: Path) -> SourceState:
    place = Path(path)
    if not place.exists():  # a hub name, or a wrong path that reading the source will report
        return SourceState(path, False, 0, None)
    files = _files(place)
    size = sum(file.stat().st_size for file in files)
    if place.is_file():
        return SourceState(os.path.abspath(path), True, size, _digest(place, cache))
    parts = "".join(f"{file.relative_to(place)}\0{_digest(file, cache)}\0" for file in files)
    return SourceState(os.path.abspath(path), False, size, xxhash.xxh3_128_hexdigest(parts.encode()))


def _files(place: Path) -> list[Path]:
    """The files of a source, without those called cache-*, which `datasets` itself writes into a saved folder."""
    if not place.is_dir():
        return [place] if place.is_file() else []
    return sorted(file for file in place.rglob("*") if file.is_file() and not file.name.startswith("cache-"))


def _stamp(file: Path) -> Stamp:
    stat = file.stat()
    return os.path.abspath(file), stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino


def _digest(file: Path, cache: Path) -> str:
    """The hash of a file's content: the one that is kept for a file with this stamp, else from reading it."""
    stamp = _stamp(file)
    kept = cache / "sources" / xxhash.xxh3_128_hexdigest(repr(stamp).encode())
    if kept.is_file():
        return kept.read_text(encoding="ascii")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{kept}.lock"):
            if not kept.is_file():
                ((_, digest),) = sizes_and_hashes(file.parent, [file]).values()
                if time.time() - stamp[3] / 1e9 < _SETTLED_SECONDS or _stamp(file) != stamp:
                    return digest
                replace_file(kept, digest)
            return kept.read_text(encoding="ascii")
    except OSError as error:
        raise ValueError(
            f"data.cache: got {str(cache)!r} ({error.strerror}), expected a folder that can be written; set data.cache "
            "in a recipe, XDG_CACHE_HOME elsewhere"
        ) from error
