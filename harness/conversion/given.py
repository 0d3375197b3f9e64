"""Reads another trainer's arguments as they lie there: a JSON file, a command line, a shell script, a Python script."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.conversion.script.values import DataSet, LossCall
from harness.settings.yaml_text import parse_yaml

Trainer = Literal["FlagEmbedding", "sentence-transformers", "Tevatron"]
TRAINERS: tuple[Trainer, ...] = ("FlagEmbedding", "sentence-transformers", "Tevatron")
_PROGRAMS = ("torchrun", "deepspeed", "accelerate", "python", "python3")
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)
_BEFORE_ASSIGNMENTS = ("export", "declare", "local", "readonly")
_MODEL = frozenset({"--model_name_or_path", "--model-name-or-path"})
_VARIABLE = re.compile(r"\$\{?([A-Za-z_]\w*)\}?")
_RANKS = ("--nproc_per_node", "--nproc-per-node", "--num_gpus", "--num_processes", "--num_accelerators")

_PAGE = "docs/coming_from.md, Around FlagEmbedding's training"
_INSTEAD = {  # part of a script's or module's name → what does its work here
    "hn_mine": f"harness mine does its work: {_PAGE}",
    "add_reranker_score": f"harness mine --cross-encoder scores: {_PAGE}",
    "flagembedding.evaluation": f"harness evaluate does its work: {_PAGE}",
    "finetune.reranker": "cross-encoders are not trained here: docs/index.md, What it does not do",
    "flagembedding.reranker": "cross-encoders are not trained here: docs/index.md, What it does not do",
}


@dataclass(slots=True)
class Given:
    """The arguments by name, without dashes; how many ranks the launcher starts; what could not be read, in words.

    data: of a script, what is trained on: the name that the trainer knows it by or none, the rows, their loss. scored:
        what is evaluated: the evaluator's name or none, the rows.
    """

    trainer: Trainer
    arguments: dict[str, Any]
    ranks: int | None = None
    losses: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    data: list[tuple[str, DataSet, LossCall | None]] = field(default_factory=list)
    scored: list[tuple[str, DataSet]] = field(default_factory=list)
    module: str = ""  # what the command runs, as FlagEmbedding.finetune.embedder.decoder_only.base


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
            return _of_json(text, path, trainer)
        if path.suffix == ".py":
            from harness.conversion.script.reader import of_script

            return of_script(text, path)
        words, others = _training_command(_commands_of_shell(text), str(path))
        given = _of_command(words, str(path), trainer)
        given.unread += others
        return given
    return _of_command(words if len(words) > 1 else shlex.split(words[0]), "command line", trainer)


def trainer_of(hints: str, arguments: Mapping[str, Any], where: str, trainer: Trainer | None) -> Trainer:
    """Whose arguments they are: as said, by the module's name, or by arguments that only one of them has."""
    if trainer is not None:
        return trainer
    for name, module in (("FlagEmbedding", "flagembedding"), ("Tevatron", "tevatron")):
        if module in hints.lower():
            return name  # type: ignore[return-value]
    own: dict[Trainer, set[str]] = {
        "FlagEmbedding": {"sentence_pooling_method", "train_data", "knowledge_distillation", "negatives_cross_device"},
        "sentence-transformers": {"batch_sampler", "multi_dataset_batch_sampler", "loss", "prompts"},
        "Tevatron": {"dataset_name", "dataset_path", "grad_cache", "append_eos_token"},
    }
    fitting = [name for name, keys in own.items() if keys & set(arguments)]
    if len(fitting) != 1:
        raise ValueError(
            f"{where}: got arguments of {' or '.join(fitting) or 'no trainer that is known'}, expected those of one of "
            f"{', '.join(TRAINERS)}; say which: --from NAME"
        )
    return fitting[0]


def _of_json(text: str, path: Path, trainer: Trainer | None) -> Given:
    try:
        tree = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{path}: got {' '.join(str(error).split())[:80]}, expected valid JSON") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: got {type(tree).__name__}, expected an object of arguments")
    if "zero_optimization" in tree:
        raise ValueError(
            f"{path}: got a DeepSpeed JSON, which names no model and no data, expected the trainer's arguments; a "
            "recipe takes it as it is: deepspeed: PATH, without what the recipe owns"
        )
    found = trainer_of("", tree, str(path), trainer)
    losses = tree.pop("loss", []) if found == "sentence-transformers" else []
    return Given(found, tree, losses=[losses] if isinstance(losses, str) else list(losses))


def _commands_of_shell(text: str) -> list[list[str]]:
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


def _training_command(commands: list[list[str]], where: str) -> tuple[list[str], list[str]]:
    """(the words of the command that trains, what is to be said of others).

    Raises:
        ValueError: several train, or none.
    """
    distinct: list[list[str]] = []
    for words in commands:
        start = next((i for i, word in enumerate(words) if Path(word).name in _PROGRAMS), None)
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


def _of_command(words: list[str], where: str, trainer: Trainer | None) -> Given:
    start = next((i for i, word in enumerate(words) if Path(word).name in _PROGRAMS), None)
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
