"""A folder that a command writes to: new, empty, or its own from an earlier start, and used by no other command.

A run folder is known by its recipe.yaml. Other commands leave the file .unfinished in theirs until they have finished.
Nothing is written among foreign files, and so nothing foreign can be replaced or deleted.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from harness import comm, rank0
from harness.files import check_output, replace_file
from harness.ownership.lease import IN_USE, Lease
from harness.process.stop_request import STOP_FILE

UNFINISHED = ".unfinished"
_NO_CONTENT = (IN_USE, UNFINISHED, STOP_FILE, ".nfs")  # how names begin that say nothing about whose a folder is
_SHOWN_NAMES = 3


@dataclass(frozen=True, slots=True)
class OutputFolder:
    """A command's output folder.

    knob: names the setting or option in messages. kind: what the folder holds, in words. is_ours: whether a folder with
    content is such a one. own_names: entries that do not count as content.
    """

    path: Path
    knob: str
    kind: str
    is_ours: Callable[[Path], bool]
    say: Callable[[str], None]
    own_names: Collection[str] = ()
    _created: list[Path] = field(default_factory=list, init=False)

    @contextmanager
    def claimed(self, mark: str | None = None) -> Iterator[None]:
        """Inside, the folder exists and belongs to this command. Every rank must enter and leave it together.

        mark: the command's name, to be left in the file .unfinished until it has finished.

        Raises:
            ValueError: on every rank: the folder holds what is not ours, is in use, or cannot be written to.
        """
        lease = Lease(self.path, self.knob, self.say)
        rank0.by_main(lambda: self._claim(lease, mark))
        has_finished = False
        try:
            yield
            has_finished = True
        finally:
            if comm.is_main():
                self._release(lease, has_finished)

    def _claim(self, lease: Lease, mark: str | None) -> None:
        refuse_foreign(self.path, self.knob, self.kind, self.is_ours, self.own_names)
        check_output(self.path, self.knob)
        self._created.extend(folder for folder in (self.path, *self.path.parents) if not folder.exists())
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            lease.take()
        except ValueError:
            self._remove_created()
            raise
        (self.path / STOP_FILE).unlink(missing_ok=True)  # it was meant for an earlier start
        if mark is not None:
            replace_file(self.path / UNFINISHED, json.dumps({"command": mark}) + "\n")

    def _release(self, lease: Lease, has_finished: bool) -> None:
        """Leave the folder as it is, without what a start that has written nothing brought into it."""
        if has_finished or not content(self.path):
            (self.path / UNFINISHED).unlink(missing_ok=True)
        (self.path / STOP_FILE).unlink(missing_ok=True)
        lease.end()
        self._remove_created()

    def _remove_created(self) -> None:
        """Remove the folders that this claim has made and that are still empty."""
        for folder in self._created:
            with contextlib.suppress(OSError):
                folder.rmdir()


def content(folder: Path, own_names: Collection[str] = ()) -> list[str]:
    """The names in a folder, without those that say nothing about whose it is."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    return [name for name in names if not name.startswith(_NO_CONTENT) and name not in own_names]


def refuse_foreign(
    path: Path, knob: str, kind: str, is_ours: Callable[[Path], bool], own_names: Collection[str] = ()
) -> None:
    """Refuse a folder that has content and is not ours.

    Raises:
        ValueError: it holds what this project did not write there.
    """
    found = content(path, own_names)
    if found and not is_ours(path):
        more = f" and {len(found) - _SHOWN_NAMES} more" if len(found) > _SHOWN_NAMES else ""
        raise ValueError(
            f"{knob}: got {path}, which holds {', '.join(found[:_SHOWN_NAMES])}{more} and is not {kind}, expected a "
            "new or empty folder; name another one"
        )


def is_unfinished(folder: Path, command: str) -> bool:
    """Whether a start of this command has begun to fill the folder and has not finished."""
    try:
        mark = json.loads((folder / UNFINISHED).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(mark, dict) and mark.get("command") == command
