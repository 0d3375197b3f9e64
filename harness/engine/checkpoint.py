"""Checkpoints that are whole or not there: written aside, fsynced, renamed, then `latest` moves.

    checkpoints/latest, best         the name of a folder
    checkpoints/step-00000100/       deepspeed/ (weights, optimizer), model/ (sentence-transformers), state.json,
                                     arrays.npz (the run's own), manifest.json (size and hash of every file: a
                                     truncated one is recognised)

Data order and dropout depend on the step number alone, so weights, optimizer state, the negatives in use and the step
are the whole state.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from harness import comm
from harness.engine.zero import ZeroEngine
from harness.files import replace_file, sync

STATE, ARRAYS, MANIFEST = "state.json", "arrays.npz", "manifest.json"


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints folder of one run."""

    folder: Path
    keep: int
    warn: Callable[[str], None] = print

    def save(
        self,
        engine: ZeroEngine,
        step: int,
        state: dict[str, Any],
        write_model: Callable[[Path], None],
        *,
        is_best: bool = False,
        arrays: Mapping[str, np.ndarray] | None = None,
        outside: Sequence[Path] = (),
    ) -> Path:
        """Save step `step`. Every rank must call it; `write_model` is called on rank 0 with a folder to fill.

        `state` and `arrays` are the run's own: state.json and arrays.npz. `outside`: files elsewhere that it needs as
        they are; without them it is damaged. All three are rank 0's.
        """
        final, aside = self.folder / checkpoint_name(step), self.folder / f".{checkpoint_name(step)}.tmp"
        if comm.is_main():
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
        comm.barrier()
        engine.save(aside)
        _check_shared(aside)
        if comm.is_main():
            write_model(aside / "model")
            described = {"step": step, "world_size": comm.world_size(), "zero_stage": engine.stage, **state}
            (aside / STATE).write_text(json.dumps(described, indent=2))
            np.savez(aside / ARRAYS, **(arrays or {}))  # type: ignore[arg-type]
        if comm.local_rank() == 0:  # another host's pages are not rank 0's to flush
            _fsync_tree(aside)
        comm.barrier()  # every rank's files are there
        if comm.is_main():
            self._publish(aside, final, is_best, outside)
        comm.barrier()
        return final

    def newest_whole(self) -> Path | None:
        """The newest checkpoint whose files are all as written; damaged ones are passed over with a warning.

        Raises:
            ValueError: there are checkpoints, and all of them are damaged.
        """
        for folder in reversed(self._folders()):
            problem = find_damage(folder)
            if problem is None:
                return folder
            self.warn(f"{folder}: {problem}; taking the checkpoint before it")
        if self._folders():
            raise ValueError(
                f"{self.folder}: got only damaged checkpoints, expected a whole one; restore one, or set "
                "checkpoint.resume: never to start afresh"
            )
        return None

    def discard_after(self, step: int) -> None:
        """Put damaged checkpoints beyond the one that is continued aside (`.damaged-step-N`); drop unfinished saves."""
        for folder in self._folders():
            if _step(folder) > step:
                aside = folder.with_name(f".damaged-{folder.name}")
                shutil.rmtree(aside, ignore_errors=True)
                folder.rename(aside)
        for folder in self.folder.glob(".step-*.tmp"):
            shutil.rmtree(folder, ignore_errors=True)
        if self._folders():
            self._point("latest", self._folders()[-1].name)
        best = self.folder / "best"
        if best.exists() and not (self.folder / best.read_text().strip()).is_dir():
            best.unlink()

    def clear(self) -> None:
        """Remove all checkpoints."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _publish(self, aside: Path, final: Path, is_best: bool, outside: Sequence[Path]) -> None:
        manifest = {str(path.relative_to(aside)): _fingerprint(path) for path in _files(aside)}
        manifest |= {os.path.relpath(path, final): _fingerprint(path) for path in outside}
        (aside / MANIFEST).write_text(json.dumps(manifest, indent=1))
        _fsync_tree(aside)
        if final.exists():
            _remove(final)
        aside.rename(final)
        sync(self.folder)
        self._point("latest", final.name)
        if is_best:
            self._point("best", final.name)
        self._prune()

    def _point(self, pointer: str, name: str) -> None:
        replace_file(self.folder / pointer, name + "\n")

    def _prune(self) -> None:
        best = self.folder / "best"
        kept = {best.read_text().strip()} if best.exists() else set()
        kept |= {folder.name for folder in self._folders()[-self.keep :]}
        for folder in self._folders():
            if folder.name not in kept:
                _remove(folder)

    def _folders(self) -> list[Path]:
        return sorted(self.folder.glob("step-*"))


def resolve_pointer(path: Path) -> Path:
    """The folder that the file `checkpoints/latest` or `checkpoints/best` names; any other path as it is."""
    if path.name in ("latest", "best") and path.is_file():
        return path.parent / path.read_text().strip()
    return path


def read_state(folder: Path) -> dict[str, Any]:
    """What `save` said of a checkpoint: step, world_size, zero_stage and the run's own entries."""
    return json.loads((folder / STATE).read_text())


def read_arrays(folder: Path) -> dict[str, np.ndarray]:
    """The arrays that `save` was given; none if the checkpoint is from before there were any."""
    if not (folder / ARRAYS).is_file():
        return {}
    with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
        return dict(arrays)


def kept_states(folder: Path) -> list[dict[str, Any]]:
    """state.json of every checkpoint of a run that may be continued; half-removed ones have no manifest any more."""
    return [read_state(path.parent) for path in sorted(folder.glob(f"step-*/{MANIFEST}"))]


def find_damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, or None if every file has the size and hash it was written with."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except (OSError, ValueError):
        return "got no readable manifest.json (the save did not finish)"
    for name, (size, digest) in manifest.items():
        path = folder / name
        if not path.is_file():
            return f"{name} is missing"
        if path.stat().st_size != size:
            return f"{name}: got {path.stat().st_size} bytes, expected {size}"
        if _fingerprint(path)[1] != digest:
            return f"{name}: got other bytes than were written"
    return None


def checkpoint_name(step: int) -> str:
    """The folder of a step's checkpoint."""
    return f"step-{step:08d}"


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _fingerprint(path: Path) -> tuple[int, str]:
    digest = xxhash.xxh3_128()
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return path.stat().st_size, digest.hexdigest()


def _check_shared(aside: Path) -> None:
    """Raise on every rank if rank 0 does not see what another rank wrote."""
    seen = {str(path.relative_to(aside)) for path in _files(aside)}
    missing = comm.broadcast_object(sorted(set().union(*comm.gather_objects(seen)) - seen))
    if missing:
        raise ValueError(
            f"output: rank 0 does not see {missing[0]} that another rank wrote, expected a folder that all hosts share"
        )


def _fsync_tree(folder: Path) -> None:
    for path in [*_files(folder), *[p for p in folder.rglob("*") if p.is_dir()], folder]:
        sync(path)


def _remove(folder: Path) -> None:
    # Without its manifest a half-removed checkpoint is a broken one, never a wrong one.
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder)
