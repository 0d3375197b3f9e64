"""What the expressions of a training script stand for, as far as that can be read."""

from __future__ import annotations

import ast
from typing import Any

from harness.conversion.script.values import (
    COMPUTED,
    POSITIONS,
    WRAPPERS,
    LossCall,
    Model,
    changed,
    indexed,
    loaded,
)

LOADERS = ("load_dataset", "load_from_disk", "from_json", "from_csv", "from_parquet")


class Expressions:
    """What expressions stand for, by the names that were assigned so far."""

    def __init__(self) -> None:
        self.names: dict[str, Any] = {}
        self._written: dict[str, ast.expr] = {}  # what a name was assigned, as the script has it

    def assign(self, name: str, node: ast.expr) -> None:
        """`name = ...` of the script."""
        self.names[name] = self.of(node)
        self._written[name] = node

    def of(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            return self.names.get(node.id, COMPUTED)
        if isinstance(node, ast.Attribute) and node.attr.isupper():  # BatchSamplers.NO_DUPLICATES
            return node.attr.lower()
        if isinstance(node, ast.JoinedStr):
            parts = [
                self.of(part.value) if isinstance(part, ast.FormattedValue) else self.of(part) for part in node.values
            ]
            return COMPUTED if COMPUTED in parts else "".join(map(str, parts))
        if isinstance(node, ast.Dict) and None not in node.keys:
            return {self.of(key): self.of(value) for key, value in zip(node.keys, node.values, strict=True) if key}
        if isinstance(node, ast.List | ast.Tuple):
            return [self.of(item) for item in node.elts]
        if isinstance(node, ast.Subscript):
            return indexed(self.of(node.value), self.of(node.slice))
        if isinstance(node, ast.Call):
            return self._of_call(node)
        try:
            return ast.literal_eval(node)
        except (ValueError, TypeError):
            return COMPUTED

    def arguments(self, node: ast.Call) -> dict[Any, Any]:
        """The arguments of a call, by position and by name."""
        by_place: dict[Any, Any] = {i: self.of(value) for i, value in enumerate(node.args)}
        return by_place | {keyword.arg: self.of(keyword.value) for keyword in node.keywords if keyword.arg}

    def _of_call(self, node: ast.Call) -> Any:
        name = name_of(node)
        if name in LOADERS:
            return loaded(name, self.arguments(node))
        if name == "SentenceTransformer":
            return self._model(node)
        if name.endswith("Loss"):
            return self._loss(name, node)
        if name in ("list", "DatasetDict") and len(node.args) == 1:
            return self.of(node.args[0])
        if isinstance(node.func, ast.Attribute):
            return changed(self.of(node.func.value), name)
        return COMPUTED

    def _model(self, node: ast.Call) -> Model:
        values = self.arguments(node)
        name = values.pop(0, values.pop("model_name_or_path", COMPUTED))
        if "prompts" in values:
            values["model_prompts"] = values.pop("prompts")
        values.pop("modules", None)
        for module in self._modules(node):
            parts = self.arguments(module)
            if name_of(module) == "Transformer":
                name = parts.get(0, parts.get("model_name_or_path", COMPUTED))
                values["max_seq_length"] = parts.get(1, parts.get("max_seq_length"))
            elif name_of(module) == "Pooling":
                values["pooling_mode"] = parts.get(1, parts.get("pooling_mode", "mean"))
        return Model(name, {key: value for key, value in values.items() if isinstance(key, str) and value is not None})

    def _modules(self, node: ast.Call) -> list[ast.Call]:
        """The modules that a model is put together from, where the script says them by name or in place."""
        listed = next((keyword.value for keyword in node.keywords if keyword.arg == "modules"), None)
        items = listed.elts if isinstance(listed, ast.List) else []
        calls = [self._written.get(item.id) if isinstance(item, ast.Name) else item for item in items]
        return [call for call in calls if isinstance(call, ast.Call)]

    def _loss(self, name: str, node: ast.Call) -> Any:
        values = self.arguments(node)
        positions = POSITIONS.get(name, ("model",))
        values = {positions[k] if isinstance(k, int) and k < len(positions) else k: v for k, v in values.items()}
        inner, model = values.pop("loss", None), values.pop("model", None)
        if name not in WRAPPERS:
            return LossCall(name, values, model)
        return (
            LossCall(inner.name, inner.arguments, model, (name, *inner.inside))
            if isinstance(inner, LossCall)
            else COMPUTED
        )


def name_of(call: ast.Call) -> str:
    """The last name of what is called: `losses.CoSENTLoss(...)` → CoSENTLoss."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def is_computed(value: Any) -> bool:
    """Whether a value, or a part of it, is known only by running the script."""
    if isinstance(value, dict):
        return any(is_computed(part) for part in (*value, *value.values()))
    if isinstance(value, list):
        return any(map(is_computed, value))
    return not isinstance(value, str | int | float | bool | None)
