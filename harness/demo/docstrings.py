"""Reads the docstrings of installed packages and removes their markup. `ast` parses the files; nothing is imported.

The result depends only on the package's files, not on the Python version. For this reason signatures are cut from the
source text: the output of `ast.unparse` changes between Python versions.
"""

from __future__ import annotations

import ast
import inspect
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

_SKIPPED_FOLDERS = frozenset(
    ("tests", "test", "testing", "externals", "vendor", "vendored", "third_party", "array_api_compat", "distutils")
)  # numpy ships distutils for Python 3.11 only
_SKIPPED_FILES = frozenset(  # tests, and files written at installation
    ("conftest.py", "__config__.py", "version.py", "_version.py", "git_version_info_installed.py")
)
_PRIVATE_BUT_READ = "_core"  # a private folder that contains numpy's public functions
_LONGEST_DEFAULT = 40  # characters; longer default values are written as "..."
_SECTIONS = (
    r"args?|arguments|parameters|other parameters|keyword args|keyword arguments|returns?|raises|yields?|examples?|"
    r"usage|notes?|references|see also|attributes|methods|warnings?|warns|shape|inputs?|outputs?|todo|citations?"
)
_DROPPED_SECTIONS = frozenset(
    ("example", "examples", "usage", "references", "see also", "methods", "todo", "citation", "citations")
)
_KEPT_DIRECTIVES = frozenset(("note", "warning", "tip", "important", "caution", "attention", "hint"))
_HEADER = re.compile(rf"(?:\.\. rubric::\s*)?({_SECTIONS})\s*:{{0,2}}", re.IGNORECASE)
_UNDERLINE = re.compile(r"([-=~^*#\"'.])\1{2,}")
_DIRECTIVE = re.compile(r"\.\. +(?:([\w:-]+)::|_[^:]+:|\[[^\]]+\]|\|)\s*(.*)")
_INLINE = (
    (re.compile(r":[\w:+-]+:`~[^`]*?([\w-]+)`"), r"\1"),  # :func:`~a.b.c` → c
    (re.compile(r":[\w:+-]+:`([^`<]+?)(?:\s*<[^`]*>)?`"), r"\1"),  # :func:`a.b`, :ref:`text <target>` → a.b, text
    (re.compile(r"`([^`<]+?)\s*<[^`]*>`__?"), r"\1"),  # `text <address>`_ → text
    (re.compile(r"\[([^\]]+)\]\(https?://[^)]*\)"), r"\1"),  # [text](address) → text
    (re.compile(r"\[[\w-]+\]_"), ""),  # citation
    (re.compile(r"\[(`[^`]+`)\]"), r"\1"),  # [`Name`] → `Name`
    (re.compile(r":param(?: [\w\[\], .|]+)? (\*{0,2}\w+):"), r"\1:"),
    (re.compile(r":(returns?|raises|rtype|type)( \w+)?:"), r"\1\2:"),
    (re.compile(r"</?\w+>"), " "),
    (re.compile(r"`|\*\*"), ""),
    (re.compile(r"\\(?=[\s*_|])"), ""),
)
# A sentence does not end after "e.g.", "i.e.", "(a." or "vs."
_SENTENCE_END = re.compile(r"(?<![.(\s]\w\.)(?<!\svs\.)(?<=[.!?])\s+(?=[A-Z\"'(])")


@dataclass(frozen=True, slots=True)
class Docstring:
    """The docstring of one module, class or function, and its place in the package."""

    package: str  # distribution name
    module: str  # the file, as PACKAGE/.../NAME.py
    owner: str  # the class that contains the function; outside of classes, its own name
    name: str  # qualified name inside the module, "" for the module itself
    signature: str
    summary: str  # first sentence
    description: tuple[str, ...]  # the sentences before the first section, including the summary
    rest: str  # everything except the summary, examples and references


def package_version(package: str) -> str:
    """The installed version of a distribution.

    Raises:
        ValueError: the distribution is not installed.
    """
    try:
        return distribution(package).version
    except PackageNotFoundError:
        raise ValueError(
            f"demo-docstrings: got no installed package {package}, expected it beside the harness; "
            "install with: pip install -c constraints.txt -e ."
        ) from None


def read_docstrings(package: str, import_name: str) -> Iterator[Docstring]:
    """Yields every docstring of a distribution's import package, sorted by path.

    Tests, vendored code and private folders are left out.
    """
    package_version(package)
    root = Path(str(distribution(package).locate_file(import_name)))
    for path in sorted(root.rglob("*.py"), key=lambda path: path.relative_to(root).parts):
        relative = path.relative_to(root.parent)
        folders = relative.parts[:-1]
        private = any(name.startswith("_") and name != _PRIVATE_BUT_READ for name in folders)
        if not private and not _SKIPPED_FOLDERS.intersection(folders) and path.name not in _SKIPPED_FILES:
            yield from module_docstrings(package, relative.as_posix(), path.read_bytes())


def module_docstrings(package: str, module: str, source: bytes) -> Iterator[Docstring]:
    """Yields the docstrings of one source file; none if the file is not valid Python 3.11."""
    try:
        text = source.decode("utf-8-sig").replace("\r\n", "\n")
        with warnings.catch_warnings():  # Python warns about invalid escapes in docstrings of the packages
            warnings.simplefilter("ignore")
            tree = ast.parse(text, feature_version=(3, 11))
    except (UnicodeDecodeError, SyntaxError, ValueError):
        return
    lines = text.encode().split(b"\n")
    dotted = module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    for node, scope in _documented(tree, ()):
        raw = ast.get_docstring(node, clean=False)
        parsed = parse_docstring(raw) if raw else None
        if parsed is None:
            continue
        summary, description, rest = parsed
        name = ".".join(part.name for part in scope)
        owner = scope[0].name if scope else ""
        signature = _signature(scope, lines) if scope else f"module {dotted}"
        yield Docstring(package, module, owner, name, signature, summary, description, rest)


_Named = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _documented(node: ast.AST, scope: tuple[_Named, ...]) -> Iterator[tuple[ast.Module | _Named, tuple[_Named, ...]]]:
    """Yields the module, classes and functions below `node` and the definitions around each; skips nested functions."""
    if isinstance(node, ast.Module):
        yield node, scope
    for child in ast.iter_child_nodes(node):
        if isinstance(child, _Named):
            yield child, (*scope, child)
            if isinstance(child, ast.ClassDef):
                yield from _documented(child, (*scope, child))
        elif isinstance(child, ast.stmt | ast.excepthandler):
            yield from _documented(child, scope)


def _signature(scope: tuple[_Named, ...], lines: list[bytes]) -> str:
    """`Class.function(argument, option=default)`; for a class, the arguments of its `__init__`."""
    node = scope[-1]
    name = ".".join(part.name for part in scope)
    function: _Named | None = node
    if isinstance(node, ast.ClassDef):
        function = next((f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"), None)
    if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
        return f"class {name}"
    arguments = ", ".join(_arguments(function.args, lines))
    return f"{'class ' if isinstance(node, ast.ClassDef) else ''}{name}({arguments})"


def _arguments(args: ast.arguments, lines: list[bytes]) -> Iterator[str]:
    positional = [*args.posonlyargs, *args.args]
    defaults: list[ast.expr | None] = [*[None] * (len(positional) - len(args.defaults)), *args.defaults]
    for argument, default in zip(positional, defaults, strict=True):
        if argument.arg not in ("self", "cls"):
            yield _argument(argument, default, lines)
    if args.vararg:
        yield f"*{args.vararg.arg}"
    elif args.kwonlyargs:
        yield "*"
    for argument, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        yield _argument(argument, default, lines)
    if args.kwarg:
        yield f"**{args.kwarg.arg}"


def _argument(argument: ast.arg, default: ast.expr | None, lines: list[bytes]) -> str:
    if default is None or default.end_lineno is None:
        return argument.arg
    parts = lines[default.lineno - 1 : default.end_lineno]
    parts[-1] = parts[-1][: default.end_col_offset]
    parts[0] = parts[0][default.col_offset :]
    value = " ".join(b" ".join(parts).decode().split())
    return f"{argument.arg}={value if len(value) <= _LONGEST_DEFAULT else '...'}"


def parse_docstring(raw: str) -> tuple[str, tuple[str, ...], str] | None:
    """(summary sentence, description sentences, rest with one paragraph per line).

    None if there is no text before the first section.
    """
    paragraphs, num_description = _paragraphs(inspect.cleandoc(raw).split("\n"))
    if not num_description:
        return None
    first = sentences(paragraphs[0])
    description = [sentence for text in paragraphs[:num_description] for sentence in sentences(text)]
    rest = [" ".join(first[1:]), *paragraphs[1:]]
    return first[0], tuple(description), "\n".join(text for text in rest if text)


def sentences(text: str) -> list[str]:
    """Split a paragraph at full stops that are followed by a capital letter."""
    return _SENTENCE_END.split(text)


def clean_inline(text: str) -> str:
    """The text without inline reST and Markdown markup; each run of white space becomes one space."""
    for pattern, replacement in _INLINE:
        text = pattern.sub(replacement, text)
    return " ".join(text.split())


def _paragraphs(lines: list[str]) -> tuple[list[str], int]:
    """The cleaned paragraphs, and how many of them come before the first section header.

    Headers, examples, references, doctests, code blocks, and directives without prose are left out.
    """
    reader = _ParagraphReader()
    for i, line in enumerate(lines):
        following = lines[i + 1].strip() if i + 1 < len(lines) else ""
        reader.read(line, following, is_first=i == 0)
    kept = [paragraph for paragraph in reader.paragraphs if paragraph]
    cleaned = [clean_inline(" ".join(paragraph)) for paragraph in kept]
    return cleaned, len(kept) if reader.num_description is None else reader.num_description


class _ParagraphReader:
    """Collects the lines of a docstring, one after the other, into paragraphs of prose; drops all other lines."""

    def __init__(self) -> None:
        self.paragraphs: list[list[str]] = [[]]  # the lines of each paragraph; a paragraph may be empty
        self.num_description: int | None = None  # number of paragraphs before the first section header
        self._in_fence = self._in_doctest = self._in_dropped_section = False
        # Indentation of a code block's or directive's first line; deeper lines belong to it. -1: not inside of one.
        self._hidden_indent = -1

    def read(self, line: str, following: str, is_first: bool) -> None:
        """Process one line. following: the next line, stripped."""
        text, indent = line.strip(), len(line) - len(line.lstrip())
        if text.startswith("```"):
            self._in_fence = not self._in_fence
        elif not text or self._in_fence:
            self._in_doctest = self._in_doctest and self._in_fence
            self.paragraphs.append([])
        elif not 0 <= self._hidden_indent < indent:
            self._hidden_indent = -1
            is_underlined = _UNDERLINE.fullmatch(following) is not None
            header = _HEADER.fullmatch(text) if indent == 0 or is_underlined else None
            if header or (is_underlined and not is_first):
                self._start_section(header[1] if header else "")
            else:
                self._add(text, indent)

    def _start_section(self, name: str) -> None:
        if self.num_description is None:
            self.num_description = sum(1 for paragraph in self.paragraphs if paragraph)
        self._in_dropped_section = name.lower() in _DROPPED_SECTIONS
        self.paragraphs.append([])

    def _add(self, text: str, indent: int) -> None:
        """Add a line to the last paragraph if the line is prose."""
        self._in_doctest = self._in_doctest or text.startswith(">>>")
        if self._in_dropped_section or self._in_doctest or _UNDERLINE.fullmatch(text):
            return
        directive = _DIRECTIVE.match(text)
        if directive:
            self.paragraphs.append([])
            if directive[1] not in _KEPT_DIRECTIVES:
                self._hidden_indent = indent
                return
            text = directive[2]
        elif text.endswith("::"):
            self._hidden_indent, text = indent, text[:-1].rstrip(" :") + ":"
        if text:
            self.paragraphs[-1].append(text)
