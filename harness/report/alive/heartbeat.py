"""Each rank writes a heartbeat into the run folder every few seconds; rank 0 sees from it which ranks are silent.

    RUN/heartbeats/rank-1.json    {"beat": 12, "step": 41, "host": "b", "process": 4711, "bytes": ..., "warning": null}

A thread writes it, so a rank that computes or waits for others is heard of, and one that has ended or whose host is
gone is not. The files of a run that was killed stay: they say where each rank was. Clocks are not compared: rank 0
looks when a file last changed by its own clock.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from harness.report.alive.memory import MemoryGrowth, own_bytes
from harness.settings import checked_json as json

FOLDER = "heartbeats"
SECONDS_BETWEEN_BEATS = 5.0
_SILENT_BEATS = 6  # that a rank must miss; a shared file system may show a file late
_LEAST_SECONDS_WITHOUT_STEP, _USUAL_STEPS = 60.0, 10  # before a line says that no step has ended


@dataclass(frozen=True, slots=True)
class _Seen:
    """The last beat of a rank, and when rank 0 saw it first (its own clock)."""

    content: str
    at: float
    host: str = "host unknown"


class Heartbeat:
    """The heartbeat of this rank; on rank 0 also what is known of the others.

    say: prints a line; rank 0 alone calls it.
    """

    def __init__(self, folder: Path, rank: int, num_ranks: int, say: Callable[[str], None]) -> None:
        self._folder, self._rank, self._num_ranks, self._say = folder / FOLDER, rank, num_ranks, say
        self._growth = MemoryGrowth(f"rank {rank} ({socket.gethostname()})")
        self._step, self._stepped_at, self._usual_seconds = 0, time.monotonic(), 0.0
        self._warning: str | None = None
        self._said: set[str] = set()
        self._seen: dict[int, _Seen] = {}
        self._say_next_at = _LEAST_SECONDS_WITHOUT_STEP  # seconds without a step
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="heartbeat")

    def start(self) -> None:
        """Write the first beat, and start the thread."""
        self._folder.mkdir(parents=True, exist_ok=True)
        now = time.monotonic()
        for rank in range(self._num_ranks):
            self._seen[rank] = _Seen(self._read(rank), now)  # of an earlier start: does not count as heard of
        self._thread.start()

    def step(self, number: int) -> None:
        """Note that a step has ended, and look at the memory that this rank holds after it."""
        now = time.monotonic()
        self._usual_seconds = now - self._stepped_at
        self._step, self._stepped_at, self._say_next_at = number, now, _LEAST_SECONDS_WITHOUT_STEP
        self._warning = self._growth.message(own_bytes()) or self._warning

    def stop(self) -> None:
        """End the thread and remove this rank's file."""
        if self._ended.is_set():
            return
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(timeout=SECONDS_BETWEEN_BEATS)
        with suppress(OSError):
            self._file(self._rank).unlink(missing_ok=True)
            self._folder.rmdir()  # by the last rank

    def in_words(self) -> str:
        """The time since the last step, and which ranks are silent; for the live line."""
        silent = self._silent()
        return f"last step {_seconds(time.monotonic() - self._stepped_at)} ago{f', {silent}' if silent else ''}"

    def _run(self) -> None:
        number = 0
        while True:
            with suppress(OSError):  # a disk that is full or away is said where the run itself writes
                self._write(number)
                if self._rank == 0:
                    self._look()
            number += 1
            if self._ended.wait(SECONDS_BETWEEN_BEATS):
                return

    def _write(self, number: int) -> None:
        content = {
            "beat": number,
            "step": self._step,
            "host": socket.gethostname(),
            "process": os.getpid(),
            "bytes": own_bytes(),
            "warning": self._warning,
        }
        file = self._file(self._rank)
        unfinished = file.with_suffix(".unfinished")
        unfinished.write_text(json.dumps(content), encoding="utf-8")
        os.replace(unfinished, file)

    def _look(self) -> None:
        """Rank 0: read the other ranks' beats, and say what has to be said."""
        now = time.monotonic()
        for rank in range(self._num_ranks):
            content = self._read(rank)
            if content != self._seen[rank].content:
                beat = _parsed(content)
                self._seen[rank] = _Seen(content, now, str(beat.get("host", "host unknown")))
                self._pass_on(beat.get("warning"))
        self._say_if_late(now - self._stepped_at)

    def _pass_on(self, warning: object) -> None:
        if isinstance(warning, str) and warning not in self._said:
            self._said.add(warning)
            self._say(f"warning: {warning}")

    def _say_if_late(self, seconds: float) -> None:
        """Say that no step has ended for long: at first after a minute, then each time twice as long."""
        if seconds < max(self._say_next_at, _USUAL_STEPS * self._usual_seconds):
            return
        self._say_next_at = 2 * seconds
        ranks = f"all {self._num_ranks} ranks are" if self._num_ranks > 1 else "the rank is"
        self._say(f"step {self._step} ended {_seconds(seconds)} ago; {self._silent() or f'{ranks} alive'}")

    def _silent(self) -> str:
        """The ranks that have not been heard of for several beats, in words; empty if there is none."""
        now = time.monotonic()
        silent = [
            (rank, seen) for rank, seen in self._seen.items() if now - seen.at > _SILENT_BEATS * SECONDS_BETWEEN_BEATS
        ]
        silent = [(rank, seen) for rank, seen in silent if rank != self._rank]
        shown = [f"rank {rank} ({seen.host}) silent for {_seconds(now - seen.at)}" for rank, seen in silent[:4]]
        return ", ".join(shown) + (f" and {len(silent) - 4} more" if len(silent) > 4 else "")

    def _read(self, rank: int) -> str:
        try:
            return self._file(rank).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""

    def _file(self, rank: int) -> Path:
        return self._folder / f"rank-{rank}.json"


def _parsed(content: str) -> dict[str, object]:
    try:
        beat = json.loads(content)
    except ValueError:
        return {}
    return beat if isinstance(beat, dict) else {}


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else f"{int(seconds) // 60}:{int(seconds) % 60:02d} min"
