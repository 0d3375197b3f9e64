"""Splits a shell script into the words of its commands, and finds the one that trains."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping

from harness.conversion.given.command import start_of_program

_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_BEFORE_ASSIGNMENTS = ("export", "declare", "local", "readonly")
_MODEL = frozenset({"--model_name_or_path", "--model-name-or-path"})
_VARIABLE = re.compile(r"\$\{?([A-Za-z_]\w*)\}?")


def commands_of_shell(text: str) -> list[list[str]]:
    """The words of a shell script's commands, with the variables that the script itself sets put in."""
    variables: dict[str, str] = {}
    commands: list[list[str]] = []
    for line in _logical_lines(text):
        words: list[str] = []
        for token in line:
            assigned = _ASSIGNMENT.fullmatch(token)
            if assigned and all(word in _BEFORE_ASSIGNMENTS for word in words):
                variables[assigned[1]] = _put_in(assigned[2], variables)
            elif "$" in token:
                words += _split(_put_in(token, variables))
            else:
                words.append(token)
        commands.append(words)
    return commands


def _logical_lines(text: str) -> Iterator[list[str]]:
    """The words of each line; a quoted text, and a line that ends in a backslash, go on in the next."""
    pending: list[str] = []
    quote = ""  # the one that is open
    for line in text.replace("\\\n", " ").splitlines():
        pending.append(line)
        if quote and quote not in line:  # reading it all again at every line would take the square of their number
            continue
        lexer = shlex.shlex("\n".join(pending), posix=True)
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:
            quote = str(vars(lexer)["state"] or "")  # the character that it waits for
            continue
        yield words
        pending, quote = [], ""
    _split("\n".join(pending))


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ValueError(f"got a shell script that cannot be read ({error}), expected closed quotes") from None


def training_command(commands: list[list[str]], where: str) -> tuple[list[str], list[str]]:
    """(the words of the command that trains, what is to be said of others).

    Raises:
        ValueError: several train, or none.
    """
    distinct: list[list[str]] = []
    for words in commands:
        start = start_of_program(words)
        if start is not None and words[start:] not in distinct:
            distinct.append(words[start:])
    if not distinct:  # arguments alone
        return [word for words in commands for word in words], []
    training = [words for words in distinct if _MODEL.intersection(word.partition("=")[0] for word in words)]
    if len(training) > 1:
        names = "; ".join(" ".join(words)[:60] for words in training)
        raise ValueError(
            f"{where}: got {len(training)} commands that train ({names}), expected one; convert each alone"
        )
    chosen = (training or distinct)[0]
    return chosen, [f"{' '.join(words)[:80]}: another command, not converted" for words in distinct if words != chosen]


def _put_in(text: str, variables: Mapping[str, str]) -> str:
    return _VARIABLE.sub(lambda found: variables.get(found[1], found[0]), text)
