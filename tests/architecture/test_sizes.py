"""Files, folders and functions stay small enough to be read at once."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = [*ROOT.glob("harness/**/*.py"), *ROOT.glob("kernels/**/*.py"), *ROOT.glob("benchmarks/**/*.py")]
ALL_PYTHON = [*SOURCES, *ROOT.glob("tests/**/*.py")]
MAX_FILE_LINES, MAX_FOLDER_FILES, MAX_FUNCTION_LINES = 300, 12, 40


def test_no_file_is_too_long() -> None:
    lines = {str(path.relative_to(ROOT)): len(path.read_text(encoding="utf-8").splitlines()) for path in ALL_PYTHON}
    assert {path: count for path, count in lines.items() if count > MAX_FILE_LINES} == {}


def test_no_folder_holds_too_many_modules() -> None:
    count = Counter(str(path.parent.relative_to(ROOT)) for path in SOURCES)
    assert {folder: number for folder, number in count.items() if number > MAX_FOLDER_FILES} == {}


def test_no_function_is_too_long() -> None:
    """Exceptions: kernels and their checks, and command line functions, because each option is a parameter."""
    long = []
    for path in SOURCES:
        if "kernels" in path.relative_to(ROOT).parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and not _is_command(path, node):
                assert node.end_lineno is not None
                if node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES:
                    long.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert long == []


def _is_command(path: Path, function: ast.FunctionDef) -> bool:
    """A command line function has the name of its file (`filter_` in filter.py)."""
    return path.parent.name == "cli" and function.name.rstrip("_") == path.stem
