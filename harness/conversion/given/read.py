"""Reads another trainer's arguments as they lie there: a JSON file, a command line, a shell script, a Python script."""

from __future__ import annotations

import shlex
from pathlib import Path

from harness.conversion.given.command import of_command
from harness.conversion.given.given import Given, Trainer
from harness.conversion.given.json_file import of_json
from harness.conversion.given.shell import commands_of_shell, training_command
from harness.conversion.script.reader import of_script


def read_given(words: list[str], trainer: Trainer | None) -> Given:
    """The arguments that `words` name: one file (.json, .py, .sh or other text with a command), or a command line.

    Raises:
        ValueError: no such file, no command in it, or it is not clear whose arguments they are.
    """
    if len(words) == 1 and not words[0].startswith("-") and " " not in words[0]:
        path = Path(words[0])
        if not path.is_file():
            raise ValueError(f"{path}: got no such file, expected a .json, .py or .sh file, or a command line after --")
        text = path.read_text(encoding="utf-8", errors="replace")
        if path.suffix == ".json":
            return of_json(text, path, trainer)
        if path.suffix == ".py":
            return of_script(text, path)
        words, others = training_command(commands_of_shell(text), str(path))
        given = of_command(words, str(path), trainer)
        given.unread += others
        return given
    return of_command(words if len(words) > 1 else shlex.split(words[0]), "command line", trainer)
