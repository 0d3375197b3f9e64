"""Which data sets a sentence-transformers script loads, and which of them its trainer trains on."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

_SPLIT = re.compile(r"(\w+)(.*)", re.DOTALL)


@dataclass(slots=True, eq=False)
class ScriptData:
    """A data set that is loaded. part: what follows the name of the split, as `[:1000]`."""

    place: str
    config: str | None
    split: str | None
    part: str
    line: int

    @property
    def keys(self) -> dict[str, str]:
        """What its task says beside the path."""
        split = None if self.split == "train" else self.split
        return {key: value for key, value in (("config_name", self.config), ("split", split)) if value is not None}

    @property
    def words(self) -> str:
        """Its name for a message."""
        named = ", ".join(filter(None, (self.config, self.split and f"split {self.split}")))
        return f"{self.place}{f' ({named})' if named else ''}, line {self.line}"


@dataclass(slots=True)
class ScriptDataSets:
    """Collects them. value_of: what an expression is, if it can be known; `unknown` if it cannot."""

    value_of: Callable[[ast.expr], Any]
    unknown: object
    unread: list[str] = field(default_factory=list)
    _loaded: dict[ast.Call, list[ScriptData]] = field(default_factory=dict)
    _named: dict[str, list[ScriptData]] = field(default_factory=dict)
    _trained: list[ScriptData] = field(default_factory=list)
    _scored: list[ScriptData] = field(default_factory=list)

    def load(self, node: ast.Call) -> None:
        """A call of `load_dataset`."""
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        files = given.get("data_files")
        value = self.value_of(files or node.args[0])
        if value is self.unknown:
            self.unread.append(f"load_dataset, line {node.lineno}: computed ({_shown(node)}); set it by hand")
            return
        config = given.get("name", node.args[1] if len(node.args) > 1 else None)
        split = None if (told := given.get("split")) is None else self.value_of(told)
        places = value.items() if isinstance(value, dict) else [(split, one) for one in _as_list(value)]
        its_config = None if config is None or files is not None else self.value_of(config)
        its_config = its_config if isinstance(its_config, str) else None
        found = [
            ScriptData(str(one), its_config, *_split_and_part(its_split), node.lineno)
            for its_split, place in places
            for one in _as_list(place)
        ]
        self._loaded[node] = found

    def assign(self, name: str, value: ast.expr) -> None:
        """A name that a value is given to."""
        if found := self._of(value):
            self._named[name] = found

    def trainer(self, node: ast.Call) -> None:
        """A call of the trainer's class."""
        for keyword in node.keywords:
            if keyword.arg == "train_dataset":
                self._trained += self._of(keyword.value)
            elif keyword.arg == "eval_dataset":
                self._scored += self._of(keyword.value)

    def change(self, node: ast.Call) -> None:
        """A call of a method, which a recipe does not repeat if it is one of a data set."""
        if isinstance(node.func, ast.Attribute) and self._of(node.func.value):
            self.unread.append(
                f"{node.func.attr}(...) of data, line {node.lineno}: not applied; prepare the data before"
            )

    def trained(self) -> list[ScriptData]:
        """Those to train on, each once; of the others `unread` says what they are."""
        loaded = [one for found in self._loaded.values() for one in found]
        kept: list[ScriptData] = []
        for one in loaded:
            is_trained = one in self._trained if self._trained else one not in self._scored and _is_training(one)
            if not is_trained:
                self.unread.append(f"{one.words}: not trained on there; to score it, name it in evaluation.data")
            elif not any((one.place, one.keys) == (other.place, other.keys) for other in kept):
                kept.append(one)
                if one.part:
                    self.unread.append(f"{one.words}: {one.part} of the split: all of it is taken; cut the data before")
        return kept

    def _of(self, value: ast.expr) -> list[ScriptData]:
        """The data sets that an expression is made of."""
        if isinstance(value, ast.Name):
            return self._named.get(value.id, [])
        if isinstance(value, ast.Call):
            if value in self._loaded:
                return self._loaded[value]
            return self._of(value.func.value) if isinstance(value.func, ast.Attribute) else []
        if isinstance(value, ast.Dict):
            return [one for inner in value.values for one in self._of(inner)]
        if isinstance(value, ast.Subscript):
            return self._split_of(self._of(value.value), self.value_of(value.slice))
        return []

    def _split_of(self, found: list[ScriptData], split: Any) -> list[ScriptData]:
        """`data["train"]`, of a data set that was loaded with all its splits."""
        if not isinstance(split, str):
            return found
        if any(one.split == split for one in found):
            return [one for one in found if one.split == split]
        for one in found:
            if one.split is None and split.startswith("train"):
                one.split = split
        return [one for one in found if one.split == split]


def _is_training(one: ScriptData) -> bool:
    return one.split is None or one.split.startswith("train")


def _split_and_part(text: Any) -> tuple[str | None, str]:
    """`train[:1000]` → train, [:1000]."""
    found = _SPLIT.fullmatch(text) if isinstance(text, str) else None
    return (None, "") if found is None else (found[1], found[2])


def _as_list(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list | tuple) else [value]


def _shown(node: ast.AST) -> str:
    return ast.unparse(node)[:60]
