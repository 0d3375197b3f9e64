"""Checks a model before any work: its files, its code, its tokenizer, its lengths. Training and all commands ask here.

Only headers and small files are read. Each mistake is a ValueError of one line with place, cause and remedy.
"""

from __future__ import annotations

import difflib
import json
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.model_folder.adapter_files import check_adapter, require_peft
from harness.model_folder.configuration import (
    backbone_config,
    check_text_length,
    default_pooling,
    position_limit,
    usual_length,
)
from harness.model_folder.end_of_text import AppendEos, resolved, warn_of_end
from harness.model_folder.find import is_path, no_such_model, resolve_model, words_of
from harness.model_folder.json_files import is_lfs_pointer, lfs_pointer_found, read_json
from harness.model_folder.layout import Layout, backbone_folder, read_layout, tokenizer_folder
from harness.model_folder.tokenizer import check_against_table, load_tokenizer
from harness.model_folder.weight_files import check_weights

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

COMMAND_LINE = "MODEL"  # a model that the command line names, not a section of the recipe
_READ_NAMES = {
    "added_tokens.json", "config.json", "config_sentence_transformers.json", "generation_config.json", "merges.json",
    "model.safetensors.index.json", "modules.json", "special_tokens_map.json", "tokenizer.json",
    "tokenizer_config.json", "vocab.json",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Preflight:
    """A model as the user asks for it.

    where: the recipe's section that names it (`model`, `guide`), or `COMMAND_LINE`. longest_text: tokens. pooling:
    None is the folder's. largest_dim: of the Matryoshka dims, if no projection is added. adds_adapter: `model.lora`.
    attention_mask, append_eos: of the recipe's section; None: the folder's attention.
    """

    name_or_path: str
    where: str = "model"
    trust_remote_code: bool = False
    pooling: Sequence[str] | None = None
    longest_text: int | None = None
    largest_dim: int | None = None
    attention_mask: str | None = None
    append_eos: AppendEos = False
    adds_adapter: bool = False

    def check(self) -> int:
        """Check the model; see `_check`. A message names the knob by which the user has named the model.

        Raises:
            ValueError: the model cannot be used; one line.
        """
        try:
            return self._check()
        except ValueError as error:
            raise ValueError(self._in_the_users_words(str(error))) from error

    def _in_the_users_words(self, message: str) -> str:
        words = {
            "model.name_or_path:": f"{self._name_key}:",
            "model.max_length:": "--max-length:" if self.where == COMMAND_LINE else f"{self.where}.max_length:",
            "set trust_remote_code": self._give_leave,
        }
        for word, theirs in words.items():
            message = message.replace(word, theirs)
        return message

    def _check(self) -> int:
        """Check the model; returns the number of weights in its files.

        Gives a UserWarning for what works but is seldom meant. Call it on rank 0 first: it may write the folder's own
        code to the cache of transformers.

        Raises:
            ValueError: the model cannot be used; one line.
        """
        self._check_place()
        if self.adds_adapter:
            require_peft("model.lora: got an adapter to train")
        name, folder = self.name_or_path, Path(resolve_model(self.name_or_path, self.trust_remote_code))
        _check_small_files(folder)
        layout = read_layout(folder)
        backbone = Path(backbone_folder(str(folder)))
        _check_small_files(backbone)
        self._check_code(backbone)
        num_weights = check_weights(backbone) + (check_adapter(layout.adapter) if layout.adapter else 0)
        config = backbone_config(str(backbone), self.trust_remote_code)
        tokenizer = load_tokenizer(tokenizer_folder(str(folder)), self.trust_remote_code)
        check_against_table(tokenizer, getattr(config.get_text_config(), "vocab_size", None), name)
        self._check_length(layout)
        self._check_dim(layout, config)
        if "last" in (self.pooling or layout.pooling or default_pooling(config, self.attention_mask)):
            warn_of_end(tokenizer, name, resolved(self.append_eos, layout))
        return num_weights

    @property
    def _name_key(self) -> str:
        return self.where if self.where == COMMAND_LINE else f"{self.where}.name_or_path"

    @property
    def _give_leave(self) -> str:
        if self.where == COMMAND_LINE:
            return "give --trust-remote-code"
        return f"set {self.where}.trust_remote_code: true"

    def _check_place(self) -> None:
        """A path that does not exist, or is a file, is told from a hub name."""
        path = Path(self.name_or_path).expanduser()
        if path.is_file():
            raise ValueError(
                f"{self._name_key}: got {path}, a file, expected a model's folder; name the folder it is in"
            )
        if path.exists() or not is_path(self.name_or_path):
            return
        if self.where != COMMAND_LINE:
            raise ValueError(no_such_model(self.name_or_path, FileNotFoundError("no such folder")))
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        nearest = difflib.get_close_matches(path.name, beside, n=1)
        hint = f"; did you mean {path.parent / nearest[0]}?" if nearest else "; name a folder that is there"
        raise ValueError(
            f"{self._name_key}: got {self.name_or_path}, which does not exist, expected a run folder, a checkpoint or "
            f"a model's folder{hint}"
        )

    def _check_length(self, layout: Layout) -> None:
        longest, limit = self.longest_text, position_limit(self.name_or_path, self.trust_remote_code)
        if longest is None:
            longest = usual_length(layout, limit)
            if layout.max_length is None and longest != limit:
                readers = "whole ones" if limit is None else f"{limit:,}"
                warnings.warn(
                    self._in_the_users_words(
                        f"model.max_length: {self.name_or_path} names no length, so texts are cut to {longest} tokens; "
                        f"sentence-transformers reads {readers}"
                    ),
                    stacklevel=2,
                )
        check_text_length(longest, self.name_or_path, self.trust_remote_code)

    def _check_dim(self, layout: Layout, config: PreTrainedConfig) -> None:
        """Check the Matryoshka dims against a model that has no layer behind its pooling."""
        size = getattr(config.get_text_config(), "hidden_size", None)
        if self.largest_dim is None or not isinstance(size, int) or any(part.kind == "Dense" for part in layout.head):
            return
        size *= len(self.pooling or layout.pooling or ("mean",))
        if self.largest_dim > size:
            raise ValueError(
                f"model.matryoshka_dims: got {self.largest_dim}, but the embedding has {size} dimensions; lower it or "
                "set model.projection_dim"
            )

    def _check_code(self, folder: Path) -> None:
        """Refuse code of the folder's own that the user has not allowed to run."""
        if not (folder / "config.json").is_file():
            raise ValueError(
                f"{folder}: got no config.json, expected a model's folder: config.json, tokenizer and safetensors "
                "weights; name the folder that holds them"
            )
        settings = read_json(folder / "config.json", dict)
        if settings.get("quantization_config"):
            raise ValueError(
                f"{folder / 'config.json'}: got quantization_config, expected float weights; name the model that the "
                "quantized one was made from"
            )
        code = settings.get("auto_map") or {}
        if not isinstance(code, dict):
            raise ValueError(f"{folder / 'config.json'}: auto_map: got {json.dumps(code)[:60]}, expected an object")
        own = {kind: code[kind] for kind in ("AutoConfig", "AutoModel") if code.get(kind)}
        if own and self.trust_remote_code:
            self._import_code(folder, own)
        elif own and not _transformers_knows(settings):
            raise ValueError(self._code_refused(folder, own))
        elif own:
            warnings.warn(
                f"{folder / 'config.json'} names code of the model's own ({_named(own)}), which is not run: "
                f"the class of transformers is used in its place; if the weights need the code, read it, then "
                f"{self._give_leave}",
                stacklevel=2,
            )

    def _code_refused(self, folder: Path, own: dict[str, Any]) -> str:
        return (
            f"{self._name_key}: got {self.name_or_path}, which brings code of its own ({_named(own)} in auto_map of "
            f"{folder / 'config.json'}), expected leave to run it; read the code, then {self._give_leave}"
        )

    def _import_code(self, folder: Path, own: dict[str, Any]) -> None:
        """Import the folder's own classes, so that a package that they lack is named before any work."""
        from transformers.dynamic_module_utils import get_class_from_dynamic_module

        for kind, reference in own.items():
            try:
                get_class_from_dynamic_module(reference, str(folder))
            except Exception as error:
                reason = words_of(error)[:300]
                raise ValueError(
                    f"{folder}: got {kind} {reference} in auto_map, which cannot be imported "
                    f"({type(error).__name__}: {reason}), expected code that runs here; fetch its files, or install "
                    "what it imports"
                ) from error


def _check_small_files(folder: Path) -> None:
    """Check that the small files that are read from a folder are JSON, and none a pointer of Git LFS."""
    for file in sorted(folder.glob("*.json")):
        if file.name in _READ_NAMES or file.name.startswith("sentence_"):
            read_json(file)
    for file in sorted(path for pattern in ("*.txt", "*.model") for path in folder.glob(pattern)):
        if is_lfs_pointer(file):
            raise ValueError(lfs_pointer_found(file))


def count_weights(name_or_path: str, trust_remote_code: bool = False) -> int:
    """The number of weights in a model's files."""
    return check_weights(Path(backbone_folder(resolve_model(name_or_path, trust_remote_code))))


def check_attention(attention: str) -> None:
    """Check that this machine has what `model.attention` needs.

    Raises:
        ValueError: it has not.
    """
    if attention != "flash_attention_2":
        return
    # Imported here: the imports take seconds.
    import torch
    from transformers.utils import is_flash_attn_2_available

    lacking = "the package flash-attn" if torch.cuda.is_available() else "a GPU"
    if not torch.cuda.is_available() or not is_flash_attn_2_available():
        raise ValueError(
            f"model.attention: got flash_attention_2, which needs {lacking}, expected attention that this machine has; "
            "set model.attention: auto or sdpa"
        )


def _named(own: dict[str, Any]) -> str:
    return " and ".join(dict.fromkeys(str(reference) for reference in own.values()))


def _transformers_knows(settings: dict[str, Any]) -> bool:
    """Whether the class that wrote the weights is part of transformers."""
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    classes, kind = settings.get("architectures") or [], settings.get("model_type")
    if not isinstance(kind, str) or not isinstance(classes, list):
        return False
    return kind in CONFIG_MAPPING_NAMES and all(
        isinstance(name, str) and hasattr(transformers, name) for name in classes
    )
