"""Reads the words of a command: what it runs, on how many ranks, with which arguments."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from harness.conversion.given.given import Given, Trainer, trainer_of
from harness.settings.yaml_text import parse_yaml

_PROGRAMS = ("torchrun", "deepspeed", "accelerate", "python", "python3")
_RANKS = ("--nproc_per_node", "--nproc-per-node", "--num_gpus", "--num_processes", "--num_accelerators")

_PAGE = "docs/coming_from.md, Around FlagEmbedding's training"
_INSTEAD = {  # part of a script's or module's name → what does its work here
    "hn_mine": f"harness mine does its work: {_PAGE}",
    "add_reranker_score": f"harness mine --cross-encoder scores: {_PAGE}",
    "flagembedding.evaluation": f"harness evaluate does its work: {_PAGE}",
    "finetune.reranker": "cross-encoders are not trained here: docs/index.md, What it does not do",
    "flagembedding.reranker": "cross-encoders are not trained here: docs/index.md, What it does not do",
}


def of_command(words: list[str], where: str, trainer: Trainer | None) -> Given:
    """The arguments of one command, or arguments alone.

    Raises:
        ValueError: neither, no training of embeddings, or it is not clear whose arguments they are.
    """
    start = start_of_program(words)
    if start is None and not any(word.startswith("--") for word in words):
        raise ValueError(
            f"{where}: got no command, expected one with {', '.join(_PROGRAMS)}, or arguments --NAME VALUE"
        )
    words = words[start or 0 :]
    module = next((i for i, word in enumerate(words) if word in ("-m", "--module") or word.endswith(".py")), None)
    first = 0 if module is None else module + (2 if words[module] in ("-m", "--module") else 1)
    name = "" if module is None else words[min(first - 1, len(words) - 1)]
    _check_trains_embeddings(name, where)
    arguments = _arguments(words[first:], where)
    found = trainer_of(name, arguments, where, trainer)
    return Given(found, arguments, _ranks(words[:first]), module=name)


def start_of_program(words: list[str]) -> int | None:
    """Where a launcher or Python is called among the words of a command; None if it is not."""
    return next((place for place, word in enumerate(words) if Path(word).name in _PROGRAMS), None)


def _check_trains_embeddings(name: str, where: str) -> None:
    """Refuse what is no training of embeddings.

    Raises:
        ValueError: names the command that does it here.
    """
    for part, instead in _INSTEAD.items():
        if part in name.lower():
            raise ValueError(f"{where}: got {name}, expected a command that trains embeddings; {instead}")


def _arguments(words: list[str], where: str) -> dict[str, Any]:
    """`--name value ...` as a dictionary: no value is True, several are a list."""
    arguments: dict[str, Any] = {}
    name = None
    values: list[Any] = []
    for word in [*words, "--"]:
        if word.startswith("--") or word in ("&", "&&", ";", "|", ">", "2>&1"):
            if name is not None:
                arguments[name] = True if not values else values[0] if len(values) == 1 else values
            if not word.startswith("--") or word == "--":
                break
            name, equals, value = word[2:].partition("=")
            name, values = name.replace("-", "_"), [_value(value)] if equals else []
        elif name is None:
            raise ValueError(f"{where}: got {word!r}, expected --NAME VALUE")
        else:
            values.append(_value(word))
    return arguments


def _value(word: str) -> Any:
    """A word as the value that a trainer's parser would make of it; texts with special characters stay texts."""
    if not re.fullmatch(r"[-+.\w]+", word):
        return word
    value = parse_yaml(word, "value", name_lines=False)
    return value if isinstance(value, bool | int | float) else word


def _ranks(words: list[str]) -> int | None:
    for word, following in zip(words, [*words[1:], ""], strict=True):
        name, _, value = word.partition("=")
        if name in _RANKS and (value or following).isdecimal():
            return int(value or following)
        if name in ("--include", "-i"):
            return len((value or following).partition(":")[2].split(",")) or None
    return None
