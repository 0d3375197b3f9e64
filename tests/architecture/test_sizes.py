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
    too_long = {path: count for path, count in lines.items() if count > MAX_FILE_LINES}
    assert not too_long, f"{too_long}: move what stands for itself to a file of its own, at most {MAX_FILE_LINES} lines"


def test_no_folder_holds_too_many_modules() -> None:
    count = Counter(str(path.parent.relative_to(ROOT)) for path in SOURCES)
    too_full = {folder: number for folder, number in count.items() if number > MAX_FOLDER_FILES}
    assert not too_full, (
        f"{too_full}: split the folder by subject, or move a file to the floor that it serves; at most "
        f"{MAX_FOLDER_FILES} Python files, __init__.py counted"
    )


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
    assert not long, f"{long}: name a step of the function and make it a function; at most {MAX_FUNCTION_LINES} lines"


def _is_command(path: Path, function: ast.FunctionDef) -> bool:
    """A command line function has the name of its file (`filter_` in filter.py); Python's has the same parameters."""
    if path.parent.name == "api" and path.stem == "commands":
        return True
    return path.parent.name == "cli" and function.name.rstrip("_") == path.stem
