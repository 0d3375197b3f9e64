"""Reads YAML as plain values: every key once, numbers as one expects, and within bounds that a recipe never reaches.

YAML lets a few lines stand for billions of values (an alias names a value again, and values hold aliases), so what a
text stands for is counted before anything is made of it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from harness.settings.other_encoding import instead_of_utf8

_LONGEST_PROBLEM = 200  # characters of what PyYAML says: it may hold a whole tag
MOST_BYTES, MOST_VALUES = 500_000, 100_000  # of a file; of what it stands for, with every alias replaced
_VALUE_CHARACTERS = 100  # a longer text counts as several values
# What a Chinese or Japanese keyboard types in place of the characters that YAML is written with.
_FULL_WIDTH = {
    "：": ":",
    "，": ",",
    "｛": "{",
    "｝": "}",
    "［": "[",
    "］": "]",
    "＃": "#",
    "“": '"',
    "”": '"',
    "＂": '"',
}
_FULL_WIDTH |= {"‘": "'", "’": "'", "＇": "'", "－": "-", "\u3000": "a blank"}


def dump_yaml(tree: Any) -> str:
    """Plain values as YAML: reading it gives equal values, here and with PyYAML."""
    return yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)


class _DuplicateKeyError(yaml.MarkedYAMLError):
    """The same key stands twice in one mapping."""


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with four changes.

    A key given twice is an error, a date stays text, 2e-5 is a number (YAML 1.1 reads it as text), and 010 and 1:30 are
    texts (YAML 1.1 reads 8 and 90, YAML 1.2 reads 10 and a text).
    """

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's loaders are set up by class attributes)
        first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":int", ":float"))]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        first_line: dict[str, int] = {}
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
                continue
            if key.value in first_line:
                problem = f"got the key {key.value} a second time (first in line {first_line[key.value]})"
                raise _DuplicateKeyError(problem=problem, problem_mark=key.start_mark)
            first_line[key.value] = key.start_mark.line + 1
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:int",
    re.compile(r"^[-+]?(?:0|[1-9][0-9_]*|0b[01_]+|0x[0-9a-fA-F_]+)$"),
    list("-+0123456789"),
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^(?:[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper, which also quotes the texts that are numbers to `_Loader` only, as 1e5."""

    yaml_implicit_resolvers = {  # noqa: RUF012
        first: [*yaml.SafeDumper.yaml_implicit_resolvers.get(first, ()), *resolvers]
        for first, resolvers in (yaml.SafeDumper.yaml_implicit_resolvers | _Loader.yaml_implicit_resolvers).items()
    }


def parse_yaml(text: str, where: str, *, name_lines: bool = True) -> Any:
    """The value of a YAML text.

    where: the place that an error message names. name_lines: whether the message also names the line.

    Raises:
        ValueError: `WHERE:LINE: ...` for broken YAML or a key given twice.
    """
    if len(text) > MOST_BYTES:
        raise ValueError(f"{where}: got {len(text):,} characters, expected a recipe of at most {MOST_BYTES:,}")
    try:
        loader = _Loader(text)
        root = _node(loader, where)
        if root is None:
            return None
        count = _count_values(root, {})
        if count > MOST_VALUES:
            got = "aliases that stand for " if "*" in text else ""
            raise ValueError(
                f"{where}: got {got}{_rounded(count)} values, expected at most {MOST_VALUES:,} in a recipe; write out "
                "what is meant, and data into files"
            )
        return _construct(loader, root, where)
    except RecursionError:
        raise ValueError(f"{where}: got values inside values too deep to read, expected sections and lists") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        position = getattr(error, "position", 0)  # given for a character that YAML does not allow
        line = 1 + (mark.line if mark else text.count("\n", 0, position))
        problem = " ".join((getattr(error, "problem", None) or str(error)).split())
        problem = problem if len(problem) <= _LONGEST_PROBLEM else f"{problem[:_LONGEST_PROBLEM]}..."
    place = f"{where}:{line}" if name_lines else where
    if problem.startswith("got the key"):
        raise ValueError(f"{place}: {problem}, expected every key once")
    hint = _full_width_hint(text, line) if name_lines else ""
    raise ValueError(f"{place}: got broken YAML ({problem}), expected valid YAML{hint}")


def read_yaml(path: Path) -> Any:
    """The value of a YAML file.

    Raises:
        ValueError: `PATH:LINE: ...` for bad UTF-8, broken YAML or a key given twice.
    """
    size = path.stat().st_size
    if size > MOST_BYTES:
        raise ValueError(f"{path}: got {size:,} bytes, expected a recipe of at most {MOST_BYTES:,}")
    data = path.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        other = instead_of_utf8(data)
        raise ValueError(f"{path}:{line}: got byte 0x{data[error.start]:02x}, expected UTF-8 text{other}") from None
    return parse_yaml(text, str(path))


def _full_width_hint(text: str, line: int) -> str:
    """The first full-width sign in the line of a mistake or, since YAML may see it late, in the line before."""
    lines = text.split("\n")
    for number in (line, line - 1):
        content = lines[number - 1] if 0 < number <= len(lines) else ""
        sign = next((sign for sign in content if sign in _FULL_WIDTH), None)
        if sign is not None:
            return (
                f"; line {number} has the full-width {sign!r} (U+{ord(sign):04X}), YAML knows {_FULL_WIDTH[sign]} only"
            )
    return ""


def _node(loader: _Loader, where: str) -> yaml.Node | None:
    try:
        return loader.get_single_node()
    except (ValueError, OverflowError) as error:  # of PyYAML's scanner: an escape beyond the last character of Unicode
        raise ValueError(f"{where}: got a text that cannot be read ({str(error)[:80]}), expected valid YAML") from None


def _construct(loader: _Loader, root: yaml.Node, where: str) -> Any:
    try:
        return loader.construct_document(root)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        # Of PyYAML's constructors: a number of more digits than Python reads, no number behind `!!int`, no `!!bool`.
        problem = " ".join(str(error).split())[:80]
        raise ValueError(
            f"{where}: got a value that cannot be read ({type(error).__name__}: {problem}), expected numbers "
            "of usual size, plain texts, lists and mappings"
        ) from None


def _count_values(node: yaml.Node, counts: dict[int, float]) -> float:
    """How many values a node stands for, every alias counted as what it names; infinite if it contains itself.

    counts: of the nodes seen so far, by their identity; infinite while a node is being counted.
    """
    if isinstance(node, yaml.ScalarNode):
        return 1 + len(node.value) // _VALUE_CHARACTERS
    if id(node) not in counts:
        counts[id(node)] = float("inf")
        inner = [part for entry in node.value for part in (entry if isinstance(entry, tuple) else (entry,))]
        counts[id(node)] = 1 + sum(_count_values(part, counts) for part in inner)
    return counts[id(node)]


def _rounded(count: float) -> str:
    return "endlessly many" if count == float("inf") else f"{count:,.0f}" if count < 1e9 else f"{count:.0e}"
