"""Reads a sentence-transformers training script without running it: model, losses, arguments, data sets.

Only literals are read, and names that a literal was assigned to. What is computed is said, never guessed.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from harness.conversion.given import Given

_ARGUMENTS = ("SentenceTransformerTrainingArguments", "TrainingArguments")
_WRAPPERS = {"MatryoshkaLoss": ("matryoshka_dims", "matryoshka_weights", "n_dims_per_step")}
_OF_LOSSES = ("scale", "mini_batch_size", "mini_batch_num_tokens", "gather_across_devices")


def of_script(text: str, path: Path) -> Given:
    """The arguments of a training script.

    Raises:
        ValueError: it is no Python, or no script of sentence-transformers.
    """
    try:
        tree = ast.parse(text)
    except SyntaxError as error:
        raise ValueError(f"{path}:{error.lineno}: got {error.msg}, expected Python") from None
    reader = _Reader(path)
    reader.visit(tree)
    given = reader.given
    if not given.arguments and not given.losses:
        raise ValueError(
            f"{path}: got no SentenceTransformer, no loss and no training arguments, expected a training script of "
            "sentence-transformers; other trainers: give the command line"
        )
    return given


class _Reader(ast.NodeVisitor):
    def __init__(self, path: Path) -> None:
        self.given = Given("sentence-transformers", {})
        self._path, self._names = path, dict[str, Any]()

    def visit_Assign(self, node: ast.Assign) -> None:
        value = self._value(node.value)
        for target in node.targets:
            if isinstance(target, ast.Name) and value is not _COMPUTED:
                self._names[target.id] = value
        self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> None:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name == "SentenceTransformer" and node.args:
            self._take("model_name_or_path", node.args[0])
        elif name in _ARGUMENTS:
            for keyword in node.keywords:
                if keyword.arg is None:
                    self._unread("**arguments", keyword.value)
                else:
                    self._take(keyword.arg, keyword.value)
        elif name == "load_dataset" and node.args:
            files = next((keyword.value for keyword in node.keywords if keyword.arg == "data_files"), None)
            value = self._value(files or node.args[0])
            if value is _COMPUTED:
                self._unread("load_dataset", node.args[0])
            else:
                found = (
                    list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else [value]
                )
                self.given.arguments.setdefault("train_data", []).extend(found)
        elif name.endswith("Loss"):
            self._loss(name, node)
        self.generic_visit(node)

    def _loss(self, name: str, node: ast.Call) -> None:
        if name not in _WRAPPERS:
            self.given.losses.append(name)
        for keyword in node.keywords:
            if keyword.arg is not None and keyword.arg in (*_WRAPPERS.get(name, ()), *_OF_LOSSES):
                self._take(keyword.arg, keyword.value)
            elif keyword.arg not in ("model", "loss", "guide", "teacher_model"):
                self.given.unread.append(
                    f"{name}({keyword.arg}=...), line {node.lineno}: not read; see docs/tasks_and_losses.md"
                )
        if name in _WRAPPERS and len(node.args) > 2:
            self._take("matryoshka_dims", node.args[2])

    def _take(self, name: str, node: ast.expr) -> None:
        value = self._value(node)
        if value is _COMPUTED:
            self._unread(name, node)
        else:
            self.given.arguments[name] = value

    def _unread(self, name: str, node: ast.expr) -> None:
        self.given.unread.append(f"{name}, line {node.lineno}: computed ({ast.unparse(node)[:60]}); set it by hand")

    def _value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Name) and node.id in self._names:
            return self._names[node.id]
        if isinstance(node, ast.Attribute) and node.attr.isupper():  # BatchSamplers.NO_DUPLICATES
            return node.attr.lower()
        if isinstance(node, ast.JoinedStr):
            return self._joined(node)
        try:
            return ast.literal_eval(node)
        except (ValueError, TypeError):
            return _COMPUTED

    def _joined(self, node: ast.JoinedStr) -> Any:
        parts = [
            self._value(part.value) if isinstance(part, ast.FormattedValue) else self._value(part)
            for part in node.values
        ]
        return _COMPUTED if _COMPUTED in parts else "".join(map(str, parts))


_COMPUTED = object()
