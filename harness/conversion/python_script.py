"""Reads a sentence-transformers training script without running it: model, losses, arguments, data sets.

Only literals are read, and names that a literal was assigned to. What is computed is said, never guessed.
"""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

from harness.conversion.given import Given
from harness.conversion.script_data import ScriptDataSets

_ARGUMENTS = ("SentenceTransformerTrainingArguments", "TrainingArguments")
_TRAINERS = ("SentenceTransformerTrainer", "Trainer")
_WRAPPERS = {"MatryoshkaLoss": ("matryoshka_dims", "matryoshka_weights", "n_dims_per_step")}
_OF_LOSSES = ("scale", "mini_batch_size", "mini_batch_num_tokens", "gather_across_devices")
# The names of what follows the model in a call of these, by its place.
_BY_PLACE = {
    "MatryoshkaLoss": ("loss", *_WRAPPERS["MatryoshkaLoss"]),
    "GISTEmbedLoss": ("guide", "temperature"),
    "CachedGISTEmbedLoss": ("guide", "temperature", "mini_batch_size"),
    "CachedMultipleNegativesRankingLoss": ("scale", "similarity_fct", "mini_batch_size"),
    "CachedMultipleNegativesSymmetricRankingLoss": ("scale", "similarity_fct", "mini_batch_size"),
    "MultipleNegativesRankingLoss": ("scale", "similarity_fct"),
    "MultipleNegativesSymmetricRankingLoss": ("scale", "similarity_fct"),
    "CoSENTLoss": ("scale", "similarity_fct"),
    "AnglELoss": ("scale",),
}


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
    given = reader.finished()
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
        self._data = ScriptDataSets(self._value, _COMPUTED, self.given.unread)

    def finished(self) -> Given:
        """What was read, when all is visited."""
        data = self._data.trained()
        if data:
            self.given.arguments["train_data"] = [one.place for one in data]
            self.given.of_data = [one.keys for one in data]
        return self.given

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        value = self._value(node.value)
        for target in node.targets:
            if isinstance(target, ast.Name):
                self._data.assign(target.id, node.value)
                if value is not _COMPUTED:
                    self._names[target.id] = value
            elif isinstance(target, ast.Attribute) and target.attr == "max_seq_length":
                self._take("max_seq_length", node.value)

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name == "SentenceTransformer" and node.args:
            self._take("model_name_or_path", node.args[0])
        elif name in _ARGUMENTS:
            self._training_arguments(node)
        elif name == "load_dataset" and node.args:
            self._data.load(node)
        elif name in _TRAINERS:
            self._data.trainer(node)
        elif name.endswith("Loss"):
            self._loss(name, node)
        else:
            self._data.change(node)

    def _training_arguments(self, node: ast.Call) -> None:
        for name, value in zip(("output_dir",), node.args, strict=False):
            self._take(name, value)
        for keyword in node.keywords:
            if keyword.arg is None:
                self._unread("**arguments", keyword.value)
            else:
                self._take(keyword.arg, keyword.value)

    def _loss(self, name: str, node: ast.Call) -> None:
        if name not in _WRAPPERS:
            self.given.losses.append(name)
        names = (*_BY_PLACE.get(name, ()), *(f"argument {place}" for place in range(1, len(node.args))))
        given = [*zip(names, node.args[1:], strict=False), *((one.arg or "**", one.value) for one in node.keywords)]
        for argument, value in given:
            if argument in (*_WRAPPERS.get(name, ()), *_OF_LOSSES):
                self._take(argument, value, of=name)
            elif argument not in ("model", "loss", "guide", "teacher_model"):
                self.given.unread.append(
                    f"{name}({argument}=...), line {node.lineno}: not read; see docs/tasks_and_losses.md"
                )

    def _take(self, name: str, node: ast.expr, of: str = "") -> None:
        """of: the loss whose argument it is; another loss may have another one, and the recipe has one place for it."""
        value, earlier = self._value(node), self.given.arguments.get(name)
        if value is _COMPUTED:
            self._unread(name, node)
        elif of and earlier not in (None, value):
            self.given.unread.append(
                f"{of}({name}={value}), line {node.lineno}: another loss has {earlier}, which the recipe has for all; "
                "set it by hand"
            )
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
