"""What a reader makes of a folder: rightly, wrongly or not, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

Reads = Literal["rightly", "wrongly", "not"]


@dataclass(frozen=True, slots=True)
class Reader:
    """A program that reads model folders. source: where that was read, so that it can be read again."""

    name: str
    version: str
    source: str


@dataclass(slots=True)
class Findings:
    """Collects what a reader does with one folder.

    refuses: why it stops with an error. differs: why its vectors, lengths or prompts are others than the folder's,
    without an error. notes: what has to be asked for, or cannot be seen from the folder.
    """

    refuses: list[str] = field(default_factory=list)
    differs: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, other: Findings, prefix: str = "") -> None:
        """Take over the findings of a library that the reader reads with."""
        self.refuses += [prefix + reason for reason in other.refuses]
        self.differs += [prefix + reason for reason in other.differs]
        self.notes += [prefix + note for note in other.notes]

    def verdict(self, reader: Reader) -> Verdict:
        """The verdict. A reader that stops with an error reads nothing wrongly."""
        reads: Reads = "not" if self.refuses else "wrongly" if self.differs else "rightly"
        return Verdict(reader, reads, tuple(self.refuses or self.differs), tuple(self.notes))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one reader makes of a folder."""

    reader: Reader
    reads: Reads
    reasons: tuple[str, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        reader = {"reader": self.reader.name, "version": self.reader.version, "source": self.reader.source}
        return {**reader, "reads": self.reads, "reasons": list(self.reasons), "notes": list(self.notes)}
