"""`trainer.py` is the first file a reader opens: it stays short enough to be read as a story."""

from __future__ import annotations

import ast
from pathlib import Path

TRAINER = Path(__file__).parents[2] / "harness" / "trainer.py"
FUNCTIONS = {
    node.name: node for node in ast.parse(TRAINER.read_text(encoding="utf-8")).body if isinstance(node, ast.FunctionDef)
}


def statements(function: ast.FunctionDef) -> list[ast.stmt]:
    """Return all statements of a function, nested ones too, without its docstring."""
    return [node for node in ast.walk(function) if isinstance(node, ast.stmt) and node is not function][1:]


def test_the_loop_has_at_most_fifteen_statements() -> None:
    assert isinstance(FUNCTIONS["train"].body[0], ast.Expr)  # the docstring is not counted
    assert len(statements(FUNCTIONS["train"])) <= 15


def test_a_step_is_one_plain_line_per_phase() -> None:
    """The phases do their own timing and checks, so a step needs no blocks and no statement of two lines."""
    lines = statements(FUNCTIONS["train_step"])
    assert len(lines) <= 8
    assert all(isinstance(line, ast.Assign | ast.Expr | ast.Return) for line in lines)
    assert all(line.lineno == line.end_lineno for line in lines)
