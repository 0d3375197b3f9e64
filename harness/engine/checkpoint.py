"""Checkpoints of a run. Each is written under a temporary name, flushed to disk and renamed; then `latest` names it.

    checkpoints/latest, best         files that hold the name of a folder
    checkpoints/step-00000100/
        deepspeed/                   weights and optimizer state
        model/                       a sentence-transformers folder
        state.json, arrays.npz       the rest of the run's state
        manifest.json                size and hash of every file, to detect a damaged checkpoint
    checkpoints/stopped-step-00000123/   kept aside: the weights before a step that stopped the run, or what was trained
                                     after a step that the run went back to; used only if `checkpoint.resume` names it

The order of the data and the dropout masks depend only on the recipe and the step number. So a run is continued from
its weights, its optimizer state, the negatives in use and the step number.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness import comm, rank0
from harness.engine.zero import ZeroEngine
from harness.files import find_changes, replace_file, sizes_and_hashes, sync
from harness.settings import checked_json as json

_OWN_NAMES = re.compile(r"step-\d{8,}|\.step-\d{8,}\.tmp|(\.damaged|stopped)-step-\d{8,}")
STATE, ARRAYS, MANIFEST = "state.json", "arrays.npz", "manifest.json"
_CHECKPOINT = re.compile(r"step-(\d{8,})")


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
        is_aside: bool = False,
        arrays: Mapping[str, np.ndarray] | None = None,
        outside: Sequence[Path] = (),
    ) -> Path:
        """Save the run after step `step`. Every rank must call it; the arguments of rank 0 are written.

        state: written to state.json, together with the step, the number of ranks and the ZeRO stage. arrays: written
        to arrays.npz. write_model: called on rank 0 with the folder model/ to fill; no collectives. is_best: whether
        the pointer `best` moves here. is_aside: keep it as `stopped-step-N`: no pointer names it, and no other
        checkpoint is removed for it. outside: files elsewhere; the checkpoint counts as damaged if one changes.

        Raises ValueError: the ranks do not share the folder; on other ranks also any error of rank 0.
        """
        final = self.folder / (stopped_name(step) if is_aside else checkpoint_name(step))
        unfinished = self.folder / f".{checkpoint_name(step)}.tmp"
        full_state = {"step": step, "world_size": comm.world_size(), "zero_stage": engine.stage, **state}
        rank0.by_main(lambda: _make_empty(unfinished))
        engine.save(unfinished)
        rank0.see_files_of_all(unfinished, "output")
        rank0.by_main(lambda: _write_run_files(unfinished, write_model, full_state, arrays or {}))
        if comm.local_rank() == 0:  # each host flushes the files that its own ranks have written
            _flush_tree(unfinished)
        comm.barrier()  # wait until every host has flushed its files
        rank0.by_main(lambda: self._publish(unfinished, final, outside, None if is_aside else is_best))
        return final

    def newest_whole(self) -> Path | None:
        """The newest checkpoint without damage; damaged ones are skipped with a warning. None: no checkpoints.

        Raises:
            ValueError: there are checkpoints, and all of them are damaged.
        """
        for foreign in sorted(set(self.folder.glob("step-*")) - set(self._folders())):
            self.warn(f"{foreign}: no checkpoint of a run by its name; left alone")
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

    def at(self, step: int, option: str = "checkpoint.resume") -> Path:
        """The checkpoint of this step, one that is kept aside if there is no other. option: who asks, for messages.

        Raises:
            ValueError: there is none, or it is damaged.
        """
        for folder in (self.folder / checkpoint_name(step), self.folder / stopped_name(step)):
            if folder.is_dir():
                if (problem := find_damage(folder)) is not None:
                    raise ValueError(f"{folder}: {problem}; set {option} to another step")
                return folder
        there = [folder.name for folder in (*self._folders(), *self.kept_aside(after=0))]
        raise ValueError(
            f"{option}: got {step}, expected the step of a checkpoint in {self.folder}, which has "
            f"{', '.join(there) or 'none'}"
        )

    def go_on_from(self, folder: Path, *, keep_later: bool) -> Path:
        """Make a checkpoint the newest one, and remove unfinished ones. Returns its folder.

        keep_later: keep later checkpoints aside as `stopped-step-N`; else, because `newest_whole` skipped them, as
        `.damaged-step-N`.
        """
        final = self.folder / checkpoint_name(step_of(folder))
        if folder != final:
            folder.rename(final)
        for later in self._folders():
            if step_of(later) > step_of(final):
                aside = self.folder / (stopped_name(step_of(later)) if keep_later else f".damaged-{later.name}")
                shutil.rmtree(aside, ignore_errors=True)  # of the same step, from an earlier time
                later.rename(aside)
        for unfinished in self.folder.glob(".step-*.tmp"):
            shutil.rmtree(unfinished, ignore_errors=True)
        self._point("latest", final.name)
        best = self._pointed("best")
        if best is not None and not (self.folder / best).is_dir():
            (self.folder / "best").unlink()
        return final

    def steps(self) -> set[int]:
        """The steps of the checkpoints that are not kept aside."""
        return {step_of(folder) for folder in self._folders()}

    def kept_aside(self, *, after: int) -> list[Path]:
        """The checkpoints of later steps that are used only if `checkpoint.resume` names them."""
        found = (path for path in self.folder.glob("stopped-step-*") if path.name[len("stopped-step-") :].isdecimal())
        return sorted((path for path in found if step_of(path) > after), key=step_of)

    def clear(self) -> None:
        """Remove all checkpoints, and what earlier starts have set aside or not finished; nothing else."""
        for pointer in ("latest", "best"):
            (self.folder / pointer).unlink(missing_ok=True)
        for folder in [path for path in self.folder.glob("*") if _OWN_NAMES.fullmatch(path.name)]:
            _remove(folder)

    def point_to_best(self, step: int) -> None:
        """Move the pointer `best` to the checkpoint of this step. Only rank 0 calls it."""
        self._point("best", checkpoint_name(step))

    def _publish(self, unfinished: Path, final: Path, outside: Sequence[Path], is_best: bool | None) -> None:
        """Write the manifest, give the folder its final name, update the pointers, remove old checkpoints.

        is_best: None: it is kept aside, so the last two are left out.
        """
        manifest = sizes_and_hashes(unfinished, _files(unfinished)) | sizes_and_hashes(final, outside)
        (unfinished / MANIFEST).write_text(json.dumps(manifest, indent=1))
        _flush_tree(unfinished)
        if final.exists():
            _remove(final)
        unfinished.rename(final)
        sync(self.folder)
        if is_best is None:
            return
        self._point("latest", final.name)
        if is_best:
            self._point("best", final.name)
        self._prune()

    def _point(self, pointer: str, name: str) -> None:
        replace_file(self.folder / pointer, name + "\n")

    def _pointed(self, pointer: str) -> str | None:
        """The name in a pointer's file; None without the file."""
        path = self.folder / pointer
        return path.read_text(encoding="utf-8", errors="replace").strip() if path.is_file() else None

    def _prune(self) -> None:
        kept = {self._pointed("best"), *(folder.name for folder in self._folders()[-self.keep :])}
        for folder in self._folders():
            if folder.name not in kept:
                _remove(folder)

    def _folders(self) -> list[Path]:
        """Ascending by step. What else lies in the folder is not this class's to touch."""
        found = (path for path in self.folder.glob("step-*") if path.is_dir() and _CHECKPOINT.fullmatch(path.name))
        return sorted(found, key=step_of)


def resolve_pointer(path: Path) -> Path:
    """The folder that the file `checkpoints/latest` or `best` names (ValueError: none); any other path unchanged."""
    if path.name not in ("latest", "best") or not path.is_file():
        return path
    folder = path.parent / (path.read_text(encoding="utf-8", errors="replace").strip() or "an empty name")
    if not os.path.isdir(folder):  # False also for a name that no file system takes
        raise ValueError(f"{path}: got {str(folder.name)[:60]!r}, no folder beside it; name a checkpoint itself")
    return folder


def read_state(folder: Path) -> dict[str, Any]:
    """The content of a checkpoint's state.json; see `Checkpoint`. ValueError: there is none."""
    try:
        state = json.loads((folder / STATE).read_text(encoding="utf-8"))
        int(state["step"])
    except (OSError, ValueError, TypeError, KeyError, OverflowError):
        raise ValueError(f"{folder / STATE}: got no state of a checkpoint, expected one; take another one") from None
    return state


def read_arrays(folder: Path) -> dict[str, np.ndarray]:
    """The arrays that `save` has written."""
    with np.load(folder / ARRAYS, allow_pickle=False) as arrays:
        return dict(arrays)


def kept_states(folder: Path) -> list[dict[str, Any]]:
    """The state.json of every checkpoint in a folder, also of those kept aside; one without a manifest is skipped."""
    manifests = (*folder.glob(f"step-*/{MANIFEST}"), *folder.glob(f"stopped-step-*/{MANIFEST}"))
    return [read_state(path.parent) for path in sorted(manifests) if (path.parent / STATE).is_file()]


def find_damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint; None if every file has the size and hash in the manifest."""
    try:
        manifest = dict(json.loads((folder / MANIFEST).read_text()))
    except (OSError, ValueError, TypeError):
        return "got no readable manifest.json (the save did not finish)"
    missing = [name for name in (STATE, ARRAYS) if name not in manifest]
    if missing:
        return f"got a manifest.json that does not name {' and '.join(missing)}"
    return find_changes(folder, manifest)


def checkpoint_name(step: int) -> str:
    """The folder name of the checkpoint of a step."""
    return f"step-{step:08d}"


def stopped_name(step: int) -> str:
    """The folder name of a checkpoint that is kept aside."""
    return f"stopped-{checkpoint_name(step)}"


def step_of(folder: Path) -> int:
    """The step in a checkpoint's name."""
    return int(folder.name.rpartition("-")[2])


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())


def _make_empty(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _write_run_files(
    folder: Path, write_model: Callable[[Path], None], state: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
) -> None:
    """Write model/, state.json and arrays.npz."""
    write_model(folder / "model")
    (folder / STATE).write_text(json.dumps(state, indent=2))
    np.savez(folder / ARRAYS, **arrays)  # type: ignore[arg-type]


def _flush_tree(folder: Path) -> None:
    """Wait until all files and folders inside are on the disk."""
    for path in [*_files(folder), *[p for p in folder.rglob("*") if p.is_dir()], folder]:
        sync(path)


def _remove(folder: Path) -> None:
    # The manifest is deleted first, so that a partly removed checkpoint counts as damaged.
    (folder / MANIFEST).unlink(missing_ok=True)
    shutil.rmtree(folder)
