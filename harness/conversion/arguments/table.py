"""The form of the tables that say what another trainer's argument is here: one row per argument.

A row says one of four things: the same, under another name (`key`); the same after a conversion (`key` and `note`);
another meaning (`differs`); nothing like it here (`none`). docs/coming_from.md shows the tables as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Verdict = Literal["same", "differs", "none"]


@dataclass(frozen=True, slots=True)
class Row:
    """One argument of another trainer.

    key: the recipe's key, dotted; `task.` stands for every task. differs, none: why, in words; both empty: the same.
    value: turns the argument's value into the recipe's. harmless: values with which there is nothing to say.
    """

    argument: str
    key: str = ""
    differs: str = ""
    none: str = ""
    value: Callable[[Any], Any] = lambda value: value
    harmless: tuple[Any, ...] = ()

    @property
    def verdict(self) -> Verdict:
        return "none" if self.none else "differs" if self.differs else "same"


@dataclass(frozen=True, slots=True)
class Remark:
    """What is said of one argument: its name and value, the verdict, the recipe's key, and why."""

    argument: str
    value: Any
    verdict: Verdict
    key: str
    why: str

    def __str__(self) -> str:
        shown = self.argument if self.value is None else f"{self.argument} {self.value}"
        if self.verdict == "same":
            return f"{shown}: {self.key}"
        if self.verdict == "differs":
            return f"{shown}: differs{f' ({self.key})' if self.key else ''}: {self.why}"
        return f"{shown}: no counterpart: {self.why}"


def losses_markdown(losses: Mapping[str, Any]) -> str:
    """The table of another trainer's losses, as docs/coming_from.md has it."""
    lines = ["| loss | here | what to know |", "| --- | --- | --- |"]
    for name, loss in losses.items():
        here = f"`kind: {loss.kind}`, `loss: {loss.loss}`" if loss.kind else "none"
        words = [f"`negatives.{loss.negatives}`" if loss.negatives else "", loss.none or loss.note]
        lines.append(f"| `{name}` | {here} | {'; '.join(filter(None, words))} |")
    return "\n".join(lines)


def markdown(rows: tuple[Row, ...]) -> str:
    """The table as docs/coming_from.md has it."""
    lines = ["| argument | here | what to know |", "| --- | --- | --- |"]
    for row in rows:
        key = f"`{row.key.replace('task.', 'tasks.NAME.')}`" if row.key else "none"
        lines.append(f"| `{row.argument}` | {key} | {row.none or row.differs or 'the same'} |")
    return "\n".join(lines)
