"""What lies in a model folder, read once for all readers: the raw files, and what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from harness.model_folder.configuration import default_pooling
from harness.model_folder.json_files import read_json
from harness.model_folder.layout import HeadModule, Layout, read_layout
from harness.model_folder.pooling import PoolingMode

OLD_MODULE = "sentence_transformers.models."  # what sentence-transformers < 5.4 puts before the names of modules
# Model types of which a token sees only those before it, unless config.json says otherwise: those with a key of their
# own (`use_bidirectional_attention`), and those that transformers 5 asks for `is_causal`.
_WITH_OWN_KEY = frozenset(["gemma", "gemma3_text"])
DECODERS = _WITH_OWN_KEY | frozenset(
    ["gemma2", "gpt2", "gpt_neox", "llama", "mistral", "mixtral", "opt", "phi", "phi3", "qwen2", "qwen3"]
)
LENGTH_FILES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)

_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "*.spm", "*.tiktoken")


@dataclass(frozen=True)
class ModelFiles:
    """A model folder. layout: what it means, as this project and sentence-transformers 6.2 read it."""

    folder: Path
    layout: Layout

    @classmethod
    def of(cls, folder: Path) -> ModelFiles:
        """The files of `folder`.

        Raises:
            ValueError: there is no such folder, no configuration, or something in it that this project cannot read.
        """
        if not folder.is_dir():
            raise ValueError(f"FOLDER: got {folder}, which does not exist, expected an exported model's folder")
        layout = read_layout(folder)
        if layout.adapter is not None:
            raise ValueError(
                f"FOLDER: got {folder}, an adapter beside another model's weights, of which servers read those alone, "
                "expected whole weights; merge it first: harness export, or the run's model/"
            )
        if not (folder / layout.backbone / "config.json").is_file():
            raise ValueError(f"FOLDER: got {folder} without config.json, expected a model's folder")
        return cls(folder, layout)

    @cached_property
    def modules(self) -> list[dict[str, Any]]:
        """The entries of modules.json; empty if there is none."""
        return self._json("modules.json", list) or []

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json of the backbone."""
        return self._json(f"{self.layout.backbone}/config.json", dict) or {}

    @cached_property
    def tokenizer_config(self) -> dict[str, Any]:
        return self._json(f"{self.layout.backbone}/tokenizer_config.json", dict) or {}

    @cached_property
    def length_settings(self) -> dict[str, Any] | None:
        """sentence_bert_config.json, or the file of an older name; None if there is none."""
        found = (self._json(f"{self.layout.backbone}/{name}", dict) for name in LENGTH_FILES)
        return next((settings for settings in found if settings is not None), None)

    @cached_property
    def pooling_settings(self) -> dict[str, Any]:
        """The configuration of the Pooling module."""
        path = next((module["path"] for module in self.modules if kind_of(module) == "Pooling"), None)
        return {} if path is None else self._json(f"{path}/config.json", dict) or {}

    @property
    def pooling(self) -> tuple[PoolingMode, ...]:
        """The poolings of the model; where no file says so, those of sentence-transformers 6."""
        return self.layout.pooling or default_pooling(SimpleNamespace(**self.config))

    @property
    def model_type(self) -> str:
        return str(self.config.get("model_type"))

    @property
    def looks_both_ways(self) -> bool:
        """Whether this is a decoder whose tokens see those after them, by transformers 5's `is_causal`."""
        return self.config.get("is_causal") is False and self.model_type in DECODERS - _WITH_OWN_KEY

    @property
    def looks_both_ways_by_own_key(self) -> bool:
        """Whether this is a Gemma whose tokens see those after them, by its own `use_bidirectional_attention`."""
        return bool(self.config.get("use_bidirectional_attention")) and self.model_type in _WITH_OWN_KEY

    @property
    def tokenizer(self) -> dict[str, Any]:
        """tokenizer.json; empty if there is none."""
        return self._json(f"{self.layout.backbone}/tokenizer.json", dict) or {}

    @property
    def has_tokenizer(self) -> bool:
        """Whether transformers finds a tokenizer; two classes need no file beside their settings."""
        place = self.folder / self.layout.backbone
        needs_none = self.tokenizer_config.get("tokenizer_class") in ("ByT5Tokenizer", "CanineTokenizer")
        return needs_none or any(next(place.glob(pattern), None) for pattern in _VOCABULARIES)

    @property
    def has_chat_template(self) -> bool:
        return self.has("chat_template.jinja", "chat_template.json") or bool(self.tokenizer_config.get("chat_template"))

    @property
    def dense(self) -> list[HeadModule]:
        return [module for module in self.layout.head if module.kind == "Dense"]

    @property
    def norms(self) -> list[HeadModule]:
        return [module for module in self.layout.head if module.kind == "LayerNorm"]

    @property
    def prompts(self) -> dict[str, str]:
        """The prompts that are not empty."""
        return {name: text for name, text in self.layout.prompts.items() if text}

    def settings_of(self, module: dict[str, Any]) -> dict[str, Any]:
        """The configuration in a module's folder."""
        return self._json(f"{module['path']}/config.json", dict) or {}

    def has(self, *names: str) -> bool:
        """Whether one of these files lies beside the backbone."""
        return any((self.folder / self.layout.backbone / name).is_file() for name in names)

    def _json(self, place: str, kind: type) -> Any:
        path = self.folder / place.lstrip("/")
        return read_json(path, kind) if path.is_file() else None


def kind_of(module: dict[str, Any]) -> str:
    """The name of a module's class without its package."""
    return str(module["type"]).rsplit(".", 1)[-1]
