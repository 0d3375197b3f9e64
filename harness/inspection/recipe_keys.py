"""Every key of a recipe, from the sections themselves: `harness keys`, and the page docs/recipe_keys.md.

    a section  →  type, default, limits (its JSON schema)  +  what it does (docstring or comment)  →  RecipeKey

A key is explained in its section's docstring (`key: what it does`), or by the comment at its line or above it.
"""

from __future__ import annotations

import ast
import inspect
import io
import json
import re
import textwrap
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic_core import PydanticUndefined

from harness.settings.recipe_file import section_of
from harness.settings.section import Section

LIMITS = {"minimum": "≥ {}", "exclusiveMinimum": "> {}", "maximum": "≤ {}", "exclusiveMaximum": "< {}"}


@dataclass(frozen=True, slots=True)
class RecipeKey:
    """One key. path: dotted, NAME for the entry of a list. allowed: types, names and limits. text: what it does."""

    path: str
    allowed: str
    default: str
    text: str
    is_section: bool


def keys_of(section: type[Section], prefix: str = "") -> Iterator[RecipeKey]:
    """The keys of a section in the order of its fields, those of the sections below it after their own key."""
    schema = section.model_json_schema()
    explained = explanations(section)
    for name, field in section.model_fields.items():
        path = f"{prefix}{name}"
        inner = section_of(field.annotation)
        is_list = "tuple[" in str(field.annotation)
        text = explained.get(name) or (_first_sentence(inner) if inner else "")
        default = field.default
        if field.is_required():
            shown = "required"
        elif default is PydanticUndefined or (inner and default is not None):
            shown = "runs/NAME" if path == "output" else ""
        else:
            shown = _yaml(default)
        allowed = ("a list of sections" if is_list else "a section") if inner else _allowed(schema, name)
        yield RecipeKey(path, allowed, shown, text, inner is not None)
        if inner:
            yield from keys_of(inner, f"{path}.NAME." if is_list else f"{path}.")


def explanations(section: type[Section]) -> dict[str, str]:
    """What the source of a section says of each of its keys: docstring first, then comments. Inherited ones, too."""
    found: dict[str, str] = {}
    for part in reversed([cls for cls in section.__mro__ if issubclass(cls, Section) and cls is not Section]):
        source = textwrap.dedent(inspect.getsource(part))
        names = list(section.model_fields)
        found |= _from_comments(source)
        found |= _from_docstring(ast.get_docstring(ast.parse(source).body[0]) or "", names)  # type: ignore[arg-type]
    return found


def _from_docstring(docstring: str, names: list[str]) -> dict[str, str]:
    """`name: text`, or `name, other: text`, at the start of a line or after a sentence."""
    key = "|".join(names)
    start = re.compile(rf"(?:^|(?<=\. ))((?:{key})(?:, (?:{key}))*): ", flags=re.MULTILINE)
    pieces = start.split(docstring)
    found = {}
    for heads, text in zip(pieces[1::2], pieces[2::2], strict=True):
        is_indented = re.match(r"[^\n]*\n ", text) is not None  # then the next line that is not begins something else
        paragraph = re.split(r"\n(?! )" if is_indented else r"\n\n", text)[0]
        for name in heads.split(", "):
            found[name] = _sentence(paragraph)
    return found


def _from_comments(source: str) -> dict[str, str]:
    """The comment behind a field (also behind its closing bracket), and the comment lines directly above it."""
    comments = {
        token.start[0]: (token.string.lstrip("# "), token.line.strip().startswith("#"))
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    found = {}
    for node in ast.parse(source).body[0].body:  # type: ignore[attr-defined]
        if not isinstance(node, ast.AnnAssign) or not isinstance(node.target, ast.Name):
            continue
        above: list[str] = []
        line = node.lineno - 1
        while line in comments and comments[line][1]:
            above.insert(0, comments[line][0])
            line -= 1
        beside = [comments[line][0] for line in range(node.lineno, (node.end_lineno or 0) + 1) if line in comments]
        if above or beside:
            found[node.target.id] = _sentence("; ".join(filter(None, [" ".join(above), *beside])))
    return found


def _sentence(text: str) -> str:
    text = " ".join(text.split()).rstrip(".")
    return text[:1].upper() + text[1:] if text[:1].islower() and text.split()[0].isalpha() else text


def _first_sentence(section: type[Section]) -> str:
    docstring = " ".join((inspect.getdoc(section) or "").split("\n\n")[0].split())
    return docstring.split(". ")[0].rstrip(".")


def _allowed(schema: dict[str, Any], name: str) -> str:
    """Types, names and limits of a key, in words, from the JSON schema of its section."""
    return _of_schema(schema["properties"][name], schema.get("$defs", {}))


def _of_schema(part: dict[str, Any], definitions: dict[str, Any]) -> str:
    if "$ref" in part:
        return _of_schema(definitions[part["$ref"].rpartition("/")[2]], definitions)
    for several in ("anyOf", "oneOf"):
        if several in part:
            return " or ".join(dict.fromkeys(_of_schema(one, definitions) for one in part[several]))
    if "enum" in part or "const" in part:
        return " | ".join(f"`{value}`" for value in part.get("enum", [part.get("const")]))
    kind = part.get("type")
    if kind == "array":
        inner = part.get("items") or (part.get("prefixItems") or [{}])[0]
        several = re.sub("^(whole number|number|text)", r"\1s", _of_schema(inner, definitions))
        return f"a list of {several}"
    names = {
        "integer": "whole number",
        "number": "number",
        "string": "text",
        "boolean": "true or false",
        "null": "null",
    }
    limits = [words.format(_number(part[limit])) for limit, words in LIMITS.items() if limit in part]
    return " ".join([names.get(str(kind), "a mapping of texts"), ", ".join(limits)]).strip()


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) or value != int(value) else f"{int(value):,}"


def _yaml(value: Any) -> str:
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, float) and 0 < value < 1e-3:
        return f"{value:.1e}"
    return value if isinstance(value, str) and value else json.dumps(value)


HEAD = """# Every key of a recipe

Written by `harness keys --markdown` from the sections themselves; a test compares them. What the keys do together is
in [configuration.md](configuration.md). `NAME` stands for the `name` of a task, as in `--set tasks.NAME.quota=64`, or
for a number. `null` means: not given. In a terminal: `harness keys training`, `harness keys matryoshka`.
"""


def markdown_page(recipe: type[Section], filters: type[Section]) -> str:
    """The page docs/recipe_keys.md: a table per section."""
    keys = list(keys_of(recipe))
    top = [key for key in keys if "." not in key.path]
    pages = [HEAD, "## The recipe\n", *_table(top)]
    for section in (key for key in top if key.is_section):
        below = [key for key in keys if key.path.startswith(f"{section.path}.")]
        pages += [f"\n## {section.path}\n", f"{section.text}.\n", *_table(below)]
    pages += [
        "\n## Limits of `harness filter`\n",
        "Given with its `--set`; no part of a recipe.\n",
        *_table(list(keys_of(filters))),
    ]
    return "\n".join(pages) + "\n"


def _table(keys: list[RecipeKey]) -> list[str]:
    rows = ["| key | values | default | what it does |", "| --- | --- | --- | --- |"]
    for key in keys:
        default = f"`{key.default}`" if key.default not in ("", "required") else key.default
        cells = [f"`{key.path}`", key.allowed, default, key.text]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return rows
