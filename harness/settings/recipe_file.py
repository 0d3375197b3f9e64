"""Turns the text of a recipe into a checked pydantic model: YAML, `--set KEY=VALUE`, and one line per mistake.

This file knows no recipe key: the pydantic model that checks the values is an argument.
"""

from __future__ import annotations

import difflib
import json
import types
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from harness.settings.in_short import in_short
from harness.settings.plain_name import NAME_IN_WORDS, NAME_PATTERN
from harness.settings.yaml_text import parse_yaml

Model = TypeVar("Model", bound=BaseModel)
KeyPath = tuple[str | int, ...]
NUM_SHOWN_CHARACTERS = 60
_SIGNS_OF_YAML = tuple("\"'|>&!*{[")  # what begins with one of them is no plain text


def find_recipe(recipe: str, folder: Path) -> Path:
    """The path of a recipe: a file of `folder` by name, or any file by path.

    Raises:
        ValueError: there is no such file.
    """
    shipped = {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    if recipe in shipped:
        return shipped[recipe]
    path = Path(recipe)
    if path.is_file():
        return path
    raise ValueError(
        f"RECIPE: got {recipe}, which is no file, expected the path of a YAML file "
        f"or one of {', '.join(shipped)}{did_you_mean(recipe, shipped)}"
    )


def apply_override(tree: dict[str, Any], override: str) -> str:
    """Set one `key.path=value` in the tree, in place. Returns the first key of the path that was new, else all of it.

    List entries are named by their `name` or their index: `tasks.faq.quota=32`, `tasks.0.quota=32`.

    Raises:
        ValueError: no `=`, or the path runs into a value or a list entry that does not exist.
    """
    key, equals, text = override.partition("=")
    key = key.strip()
    if not equals or not all(key.split(".")):
        raise ValueError(f"--set {override}: got no KEY=VALUE, expected for example training.steps=100")
    value = _value_of(text, f"--set {key}")
    container: Any = tree
    remaining = key.split(".")
    path: list[str | int] = []
    new_path: KeyPath | None = None
    while True:
        entry, num_parts = _find_entry(container, remaining, key)
        remaining = remaining[num_parts:]
        path.append(entry)
        if not remaining:
            container[entry] = value
            return _dotted(tree, new_path or tuple(path))
        if isinstance(container, dict) and container.get(entry) is None:
            container[entry] = {}
            new_path = new_path or tuple(path)
        inner = container[entry]
        if not isinstance(inner, dict | list):
            raise ValueError(
                f"--set {key}: got {key.removesuffix('.' + '.'.join(remaining))} = {show(inner)}, a value without "
                "keys; expected a section"
            )
        container = inner


def _value_of(text: str, where: str) -> Any:
    """The value of a YAML text. A text without quotes stays as it is, with its blanks, line breaks and #."""
    is_plain = text.lstrip()[:1] not in _SIGNS_OF_YAML
    hint = "; put a text with a colon into double quotes" if is_plain and ":" in text else ""
    try:
        value = parse_yaml(text, where, name_lines=False)
    except ValueError as error:
        raise ValueError(f"{error}{hint}") from None
    if is_plain and isinstance(value, dict) and None in value.values():
        raise ValueError(f"{where}: got {show(value)}, a key without a value, expected a value{hint}")
    is_text = isinstance(value, str) or (value is None and text.lstrip().startswith("#"))
    return text if is_plain and is_text else value


def _find_entry(container: Any, parts: Sequence[str], key: str) -> tuple[Any, int]:
    """The entry of a mapping or list that `parts` starts with, and how many of the parts its name has.

    A name may have several parts, because the name of a list entry may contain dots.
    """
    if isinstance(container, dict):
        return parts[0], 1
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in container]
    for num_parts in range(len(parts), 0, -1):
        name = ".".join(parts[:num_parts])
        if name in names:
            return names.index(name), num_parts
    if parts[0].isdecimal() and int(parts[0]) < len(container):
        return int(parts[0]), 1
    given_names = [str(name) for name in names if name is not None]
    raise ValueError(
        f"--set {key}: got no entry {parts[0]}, expected one of {', '.join(given_names) or 'none'}, "
        f"or an index from 0 to {len(container) - 1}{did_you_mean(parts[0], given_names)}"
    )


def build(
    model: type[Model], tree: Any, where: str, overridden: Iterable[str] = (), context: dict[str, Any] | None = None
) -> Model:
    """Check a tree of plain values and build the model from it. Types are strict: "32" is not a number.

    overridden: the key paths that `apply_override` has returned. context: pydantic's, for the model's own checks.

    Raises:
        ValueError: one line per mistake, `WHERE: key.path: got ..., expected ...`; WHERE is `where`, or `--set` for a
            key that was overridden.
    """
    if not isinstance(tree, dict):
        raise ValueError(f"{where}: got {show(tree)}, expected a recipe: a mapping of keys to values")
    try:
        # As JSON, because a strict check of Python values does not accept a list where the model has a tuple.
        return model.model_validate_json(_as_json(tree, where), strict=True, context=context)
    except ValidationError as error:
        details = error.errors(include_url=False)
    paths = [_key_path(model, detail["loc"])[0] for detail in details]
    expected_of_line: dict[str, list[str]] = {}  # start of a line → all that would be allowed there
    for detail in details:
        path, section = _key_path(model, detail["loc"])
        if _follows_from_others(detail, path, paths):
            continue
        dotted = _dotted(tree, path)
        start, expected = _describe(detail, dotted, section, model)
        # A check of a whole section names the key in its message only.
        places = (dotted, start.partition(":")[0])
        is_override = any(f"{place}.".startswith(f"{key}.") for place in places for key in overridden)
        source = "--set" if is_override else where
        expected_of_line.setdefault(f"{source}: {start}", []).append(expected)
    lines = [start + " or ".join(dict.fromkeys(expected)) for start, expected in expected_of_line.items()]
    raise ValueError("\n".join(lines))


def _as_json(tree: Any, where: str) -> str:
    try:
        return json.dumps(tree, default=str)
    except (TypeError, ValueError, RecursionError) as error:  # a list as a key; a value that contains itself
        raise ValueError(
            f"{where}: got values that are no tree of keys and values ({str(error)[:80]}), expected texts as keys and "
            "no alias to what contains it"
        ) from None


def _follows_from_others(detail: ErrorDetails, path: KeyPath, paths: Sequence[KeyPath]) -> bool:
    """Whether another error causes this one: a default of a wrong key, a list too short for its wrong entries."""
    if detail["type"] == "default_factory_not_called":
        return True
    return detail["type"] == "too_short" and any(other[: len(path)] == path for other in paths if other != path)


def _key_path(model: type[BaseModel], location: Sequence[str | int]) -> tuple[KeyPath, type[BaseModel]]:
    """The key path of a pydantic error, and the section that holds the path's last key.

    location: pydantic's `loc`. It also names the branch of a union that was tried; the key path does not.
    """
    path: list[str | int] = []
    section, inner = model, model
    for position, item in enumerate(location):
        if isinstance(item, int):
            path.append(item)
        elif inner is not None and item in inner.model_fields:
            path.append(item)
            section, inner = inner, section_of(inner.model_fields[item].annotation)
        elif inner is not None and position == len(location) - 1:
            path.append(item)  # an unknown key
            section = inner
    return tuple(path), section


def section_of(annotation: Any) -> Any:
    """The model inside an annotation such as `tuple[Section, ...]` or `Section | None`; None without one."""
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        return annotation if issubclass(annotation, BaseModel) else None
    return next(filter(None, map(section_of, typing.get_args(annotation))), None)


def _dotted(tree: Any, path: KeyPath) -> str:
    """The key path as text, such as `tasks.faq.quota`. A list entry is given by its `name`, else by its index."""
    parts: list[str] = []
    for item in path:
        if isinstance(tree, dict):
            tree = tree.get(item)
        elif isinstance(tree, list) and isinstance(item, int) and item < len(tree):
            tree = tree[item]
        name = tree.get("name") if isinstance(item, int) and isinstance(tree, dict) else None
        parts.append(in_short(name if isinstance(name, str) and name else str(item)))
    return ".".join(parts)


def _describe(detail: ErrorDetails, path: str, section: type[BaseModel], root: type[BaseModel]) -> tuple[str, str]:
    """An error of pydantic as (start of the line, what was expected).

    A value that fits no branch of a union gives one error per branch, all with the same start.
    """
    kind = detail["type"]
    context = detail.get("ctx", {})
    if kind == "extra_forbidden":
        key = path.rpartition(".")[2]
        hint = did_you_mean(key, section.model_fields) or _hint_for_unknown_key(key, section, root)
        return f"{path}: unknown key", hint
    if kind == "value_error":
        message = str(context["error"])
        below_root = message.split(":")[0].split(".")[0] in root.model_fields
        return (f"{path}.{message}" if path and not below_root else message), ""
    if kind == "missing":
        return f"{path}: got nothing, expected ", "a value (the key is required)"
    expected = {
        "literal_error": f"{context.get('expected')}",
        "greater_than": f"a number greater than {context.get('gt')}",
        "greater_than_equal": f"a number of at least {context.get('ge')}",
        "less_than": f"a number less than {context.get('lt')}",
        "less_than_equal": f"a number of at most {context.get('le')}",
        "string_pattern_mismatch": _in_words(str(context.get("pattern"))),
        "too_short": f"a list of at least {context.get('min_length')}",
        "too_long": f"a list of at most {context.get('max_length')}",
        "finite_number": "a finite number",
        "none_required": "null",
    }.get(kind) or _EXPECTED_OF_TYPE.get(kind.split("_")[0], detail["msg"])
    return f"{path}: got {show(detail['input'])}, expected ", expected


def _in_words(pattern: str) -> str:
    return NAME_IN_WORDS if pattern == NAME_PATTERN else f"text that matches {pattern}"


_EXPECTED_OF_TYPE = {  # by the first word of pydantic's error type
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "string": "text",
    "tuple": "a list",
    "list": "a list",
    "dict": "a mapping of keys to values",
    "model": "a section: a mapping of keys to values",
}


def _hint_for_unknown_key(key: str, section: type[BaseModel], root: type[BaseModel]) -> str:
    """Other places of the recipe where this key is allowed; without any, the keys allowed here."""
    places = [key] if key in root.model_fields else []
    for name, field in root.model_fields.items():
        inner = section_of(field.annotation)
        if inner is not None and key in inner.model_fields:
            is_list = typing.get_origin(field.annotation) is tuple
            places.append(f"{name}.NAME.{key}" if is_list else f"{name}.{key}")
    if places:
        return f"; did you mean {' or '.join(places)}?"
    return f"; known keys: {', '.join(section.model_fields)}"


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """`; did you mean NEAREST?`, or an empty text if no allowed word is similar."""
    nearest = difflib.get_close_matches(word, list(allowed), n=1)
    return f"; did you mean {nearest[0]}?" if nearest else ""


def show(value: Any) -> str:
    """A value as a recipe would write it, cut to one short line."""
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False, default=str)
    if isinstance(value, str):
        text = f"the text {text}"
    return text if len(text) <= NUM_SHOWN_CHARACTERS else text[: NUM_SHOWN_CHARACTERS - 3] + "..."
