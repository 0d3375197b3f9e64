"""Checkpoints of a run. Each is written under a temporary name, flushed to disk and renamed; then `latest` names it.

    checkpoints/latest, best         files that hold the name of a folder
    checkpoints/step-00000100/
        deepspeed/                   weights and optimizer state
        model/                       a sentence-transformers folder
        state.json, arrays.npz       the rest of the run's state
        manifest.json                size and hash of every file, to detect a damaged checkpoint

The order of the data and the dropout masks depend only on the recipe and the step number. So a run is continued from
its weights, its optimizer state, the negatives in use and the step number.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from harness import comm, rank0
from harness.engine.zero import ZeroEngine
from harness.files import replace_file, sync

_OWN_NAMES = re.compile(r"step-\d{8,}|\.step-\d{8,}\.tmp|\.damaged-step-\d{8,}")
STATE, ARRAYS, MANIFEST = "state.json", "arrays.npz", "manifest.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on disk. `state`: its step, world_size and zero_stage, and the entries that the run added."""

    folder: Path
    state: dict[str, Any]

    @property
    def step(self) -> int:
        """How many steps had been trained."""
        return int(self.state["step"])


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of one run. The newest `keep` and the best are kept. `warn` gets a line on each damaged one."""

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
        """Save the run after step `step`. Every rank must call it; the arguments of rank 0 are written.

        Args:
            engine: writes weights and optimizer state.
            step: names the checkpoint.
            state: written to state.json, together with the step, the number of ranks and the ZeRO stage.
            write_model: called on rank 0 with the folder model/ to fill; no collectives.
            is_best: whether the pointer `best` moves here.
            arrays: written to arrays.npz.
            outside: files outside the checkpoint's folder; the checkpoint counts as damaged if one of them changes.

        Raises:
            ValueError: the ranks do not share the folder; on other ranks also any error of rank 0.
        """
        final, unfinished = self.folder / checkpoint_name(step), self.folder / f".{checkpoint_name(step)}.tmp"
        full_state = {"step": step, "world_size": comm.world_size(), "zero_stage": engine.stage, **state}
        rank0.by_main(lambda: _make_empty(unfinished))
        engine.save(unfinished)
        _check_shared(unfinished)
        rank0.by_main(lambda: _write_run_files(unfinished, write_model, full_state, arrays or {}))
        if comm.local_rank() == 0:  # each host flushes the files that its own ranks have written
            _flush_tree(unfinished)
        comm.barrier()  # wait until every host has flushed its files
        rank0.by_main(lambda: self._publish(unfinished, final, is_best, outside))
        return final

    def newest_whole(self) -> Path | None:
        """The newest checkpoint without damage; damaged ones are skipped with a warning. None: no checkpoints.

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
        """Rename later checkpoints, which `newest_whole` skipped, to `.damaged-step-N`; delete unfinished ones."""
        for folder in self._folders():
            if _step(folder) > step:
                set_aside = folder.with_name(f".damaged-{folder.name}")
                shutil.rmtree(set_aside, ignore_errors=True)
                folder.rename(set_aside)
        for folder in self.folder.glob(".step-*.tmp"):
            shutil.rmtree(folder, ignore_errors=True)
        if self._folders():
            self._point("latest", self._folders()[-1].name)
        best = self.folder / "best"
        if best.exists() and not (self.folder / best.read_text().strip()).is_dir():
            best.unlink()

    def clear(self) -> None:
        """Remove all checkpoints, and what earlier starts have set aside or not finished; nothing else."""
        for pointer in ("latest", "best"):
            (self.folder / pointer).unlink(missing_ok=True)
        for folder in [path for path in self.folder.glob("*") if _OWN_NAMES.fullmatch(path.name)]:
            _remove(folder)

    def point_to_best(self, step: int) -> None:
        """Move the pointer `best` to the checkpoint of this step. Only rank 0 calls it."""
        self._point("best", checkpoint_name(step))

    def _publish(self, unfinished: Path, final: Path, is_best: bool, outside: Sequence[Path]) -> None:
        """Write the manifest, give the folder its final name, update the pointers, remove old checkpoints."""
        manifest = {str(path.relative_to(unfinished)): _size_and_hash(path) for path in _files(unfinished)}
        manifest |= {os.path.relpath(path, final): _size_and_hash(path) for path in outside}
        (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=1))
        _flush_tree(unfinished)
        if final.exists():
            _remove(final)
        unfinished.rename(final)
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
    """The folder that the file `checkpoints/latest` or `checkpoints/best` names; any other path unchanged."""
    if path.name in ("latest", "best") and path.is_file():
        return path.parent / path.read_text().strip()
    return path


def read_state(folder: Path) -> dict[str, Any]:
    """The content of a checkpoint's state.json; see `Checkpoint`."""
    return json.loads((folder / STATE).read_text())


def read_arrays(folder: Path) -> dict[str, np.ndarray]:
    """The arrays that `save` has written."""
    with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
        return dict(arrays)


def kept_states(folder: Path) -> list[dict[str, Any]]:
    """The state.json of every checkpoint in a folder. Partly removed checkpoints have no manifest and are skipped."""
    return [read_state(path.parent) for path in sorted(folder.glob(f"step-*/{MANIFEST}"))]


def find_damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint; None if every file has the size and hash in the manifest."""
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
        if _size_and_hash(path)[1] != digest:
            return f"{name}: got other bytes than were written"
    return None


def checkpoint_name(step: int) -> str:
    """The folder name of the checkpoint of a step."""
    return f"step-{step:08d}"


def _step(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _size_and_hash(path: Path) -> tuple[int, str]:
    digest = xxhash.xxh3_128()
    with path.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return path.stat().st_size, digest.hexdigest()


def _make_empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _write_run_files(
    folder: Path,
    write_model: Callable[[Path], None],
    state: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
) -> None:
    """Write model/, state.json and arrays.npz."""
    write_model(folder / "model")
    (folder / STATE).write_text(json.dumps(state, indent=2))
    np.savez(folder / ARRAYS, **arrays)  # type: ignore[arg-type]


def _check_shared(folder: Path) -> None:
    """Raise on every rank if rank 0 does not see a file that another rank has written."""
    visible = {str(path.relative_to(folder)) for path in _files(folder)}
    missing = comm.broadcast_object(sorted(set().union(*comm.gather_objects(visible)) - visible))
    if missing:
        raise ValueError(
            f"output: rank 0 does not see {missing[0]} that another rank wrote, expected a folder that all hosts share"
        )


def _flush_tree(folder: Path) -> None:
    """Wait until all files and folders inside are on the disk."""
    for path in [*_files(folder), *[p for p in folder.rglob("*") if p.is_dir()], folder]:
        sync(path)


def _remove(folder: Path) -> None:
    # The manifest is deleted first, so that a partly removed checkpoint counts as damaged.
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder)
