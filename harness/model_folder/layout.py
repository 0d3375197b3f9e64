"""Reads what the folder of a sentence-transformers model says besides its backbone's own configuration.

modules.json lists the modules and the folder of each: Transformer (the backbone), Pooling, then the head (Dense,
LayerNorm, Normalize, Dropout). Everything that embeddings depend on is read, or refused with the name of its key.
Source: `load` and `__init__` of the modules in sentence-transformers 6.2; older folders use older names for the same.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any

from harness.model_folder.adapter_files import StoredAdapter, stored_adapter
from harness.model_folder.find import published_name, resolve_model
from harness.model_folder.json_files import read_json
from harness.model_folder.module_settings import (
    HEAD_KINDS,
    check_head_module,
    read_pooling,
    read_transformer,
)
from harness.model_folder.pooling import PoolingMode
from harness.settings.in_short import in_short, joined_in_short

_NO_LIMIT = 10**9  # tokens: transformers writes 10^30 if there is no limit
_LONGEST_PLACE = 255  # bytes: the name of a file has no more
_OF_A_TOKENIZER = ("tokenizer_config.json", "tokenizer.json", "vocab.txt")
_KNOWN_SETTINGS = {
    "__version__", "prompts", "default_prompt_name", "similarity_fn_name", "truncate_dim", "model_type", "requirements",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class HeadModule:
    """A module that changes the pooled vector: its name in sentence-transformers, and the folder of its files."""

    kind: str  # one of HEAD_KINDS
    folder: Path


@dataclass(frozen=True, slots=True)
class Layout:
    """What a model folder says about its embeddings. A plain Hugging Face folder says at most a length."""

    backbone: str = ""  # the subfolder with the backbone's configuration, weights and tokenizer
    pooling: tuple[PoolingMode, ...] | None = None  # the pooled vectors stand side by side, in this order
    include_prompt: bool = True  # False: the tokens of the prompt are not pooled
    head: tuple[HeadModule, ...] = ()  # without the Normalize module at the end
    normalize: bool | None = None  # whether the last module is Normalize
    max_length: int | None = None  # tokens
    lower_case: bool = False  # every text is lower-cased before it is tokenised
    prompts: dict[str, str] = field(default_factory=dict)
    default_prompt_name: str | None = None  # the prompt of texts for which no other prompt is chosen
    similarity: str | None = None  # `similarity_fn_name`: cosine, dot, euclidean or manhattan
    adapter: StoredAdapter | None = None  # LoRA; the backbone is that of the model that it changes
    is_causal: bool | None = None  # attention that an adapter was trained with; None: as config.json says


def read_layout(path: str | Path) -> Layout:
    """Read modules.json, the modules that it lists, and the prompts.

    A folder with nothing but an adapter embeds as the model that it changes does: with its pooling, head and prompts.

    Raises:
        ValueError: the folder has a module or a key that this project cannot reproduce exactly, or a broken file.
    """
    folder = Path(path)
    if not (folder / "modules.json").is_file():
        adapter = stored_adapter(folder)
        if adapter is not None:
            return replace(read_layout(adapter.base), backbone="", adapter=adapter)
        return Layout(max_length=_tokenizer_length(folder))
    (first, backbone), (second, pooling_folder), *rest = _modules(folder)
    if (first, second) != ("Transformer", "Pooling"):
        raise ValueError(
            f"{folder / 'modules.json'}: got the modules {first}, {second}, expected Transformer and Pooling first; "
            "other kinds of models are not read"
        )
    for kind, module_folder in rest:
        check_head_module(kind, module_folder)
    transformer, pooling = read_transformer(backbone), read_pooling(pooling_folder)
    normalize, adapter = bool(rest) and rest[-1][0] == "Normalize", stored_adapter(backbone)
    if transformer.is_causal is not None and adapter is None:
        raise ValueError(
            f"{backbone}: got config_args.is_causal, which no reader applies, expected it in config.json; move it there"
        )
    return Layout(
        backbone=backbone.relative_to(folder).as_posix() if backbone != folder else "",
        pooling=pooling.modes,
        include_prompt=pooling.include_prompt,
        head=tuple(HeadModule(*module) for module in (rest[:-1] if normalize else rest)),
        normalize=normalize,
        max_length=transformer.max_length or _tokenizer_length(backbone),
        lower_case=transformer.lower_case,
        adapter=adapter,
        is_causal=transformer.is_causal,
        **_settings(folder),
    )


def backbone_folder(folder: str) -> str:
    """Where the backbone's configuration and weights lie: of an adapter, in the model that it changes.

    Folders of 2019 and 2020 name it 0_Transformer.
    """
    layout = read_layout(folder)
    return folder_of_backbone(folder, layout)


def folder_of_backbone(folder: str, layout: Layout) -> str:
    """The same for a folder whose layout is read."""
    if layout.adapter is not None:
        return backbone_folder(layout.adapter.base)
    return str(Path(folder) / layout.backbone) if layout.backbone else folder


def tokenizer_folder(folder: str) -> str:
    """Where the tokenizer lies: beside the backbone, or beside an adapter that comes with one."""
    adapter = read_layout(folder).adapter
    if adapter is not None and any((adapter.folder / name).is_file() for name in _OF_A_TOKENIZER):
        return str(adapter.folder)
    return backbone_folder(folder)


def has_adapter(name_or_path: str) -> bool:
    """Whether a model is an adapter beside another model's weights."""
    return read_layout(resolve_model(name_or_path)).adapter is not None


def base_of_adapter(name_or_path: str) -> str:
    """How an adapter names the model that it changes, so that peft finds it: a hub name, or the path of a folder.

    name_or_path: of the model that is trained. One that is an adapter itself is continued: its base is kept.
    """
    folder = resolve_model(name_or_path)
    adapter = read_layout(folder).adapter
    if adapter is not None:
        return str(adapter.settings["base_model_name_or_path"])
    is_folder = Path(name_or_path).expanduser().is_dir()
    return str(Path(backbone_folder(folder)).absolute()) if is_folder else published_name(name_or_path)


def _modules(folder: Path) -> list[tuple[str, Path]]:
    """(kind, folder) of each entry of modules.json.

    Raises:
        ValueError: an entry is not a module of sentence-transformers that this project can reproduce.
    """
    path, modules = folder / "modules.json", []
    entries = read_json(path, list)
    for entry in entries:
        if not isinstance(entry, dict) or not {"type", "path"} <= entry.keys():
            raise ValueError(f"{path}: got {in_short(entry)}, expected an object with type and path per module")
        kind, place = str(entry["type"]).rsplit(".", 1)[-1], PurePosixPath(str(entry["path"]))
        if not str(entry["type"]).startswith("sentence_transformers.") or kind not in HEAD_KINDS | {
            "Transformer",
            "Pooling",
        }:
            raise ValueError(
                f"{path}: got the module {in_short(entry['type'])}, expected Transformer, Pooling, "
                f"{', '.join(sorted(HEAD_KINDS))} of sentence-transformers only; this model cannot be trained here"
            )
        is_too_long = len(str(place).encode("utf-8", "surrogatepass")) > _LONGEST_PLACE
        if place.is_absolute() or ".." in place.parts or is_too_long:
            raise ValueError(
                f"{path}: got the path {in_short(entry['path'], quoted=True)}, expected a folder below {folder}"
            )
        modules.append((kind, folder / place))
    names = [entry.get("name") for entry in entries]
    doubled = [name for name in names if name is not None and names.count(name) > 1]
    if doubled:
        raise ValueError(
            f"{path}: got two modules with the name {in_short(doubled[0], quoted=True)}, of which "
            "sentence-transformers drops the first, expected a name of its own for each; number the names"
        )
    if len(modules) < 2:
        raise ValueError(f"{path}: got {len(modules)} modules, expected at least Transformer and Pooling")
    return modules


def _tokenizer_length(backbone: Path) -> int | None:
    """Tokens. Newer folders have the length in the tokenizer's configuration."""
    path = backbone / "tokenizer_config.json"
    value = read_json(path, dict).get("model_max_length") if path.is_file() else None
    return int(value) if isinstance(value, int | float) and 0 < value < _NO_LIMIT else None


def _settings(folder: Path) -> dict[str, Any]:
    """Prompts and similarity, as fields of `Layout`."""
    path = folder / "config_sentence_transformers.json"
    if not path.is_file():
        return {}
    config = read_json(path, dict)
    prompts = config.get("prompts") or {}
    if not isinstance(prompts, dict):
        raise ValueError(f"{path}: prompts: got {in_short(prompts)}, expected texts by name; mend the file")
    prompts = {str(name): "" if prompt is None else prompt for name, prompt in prompts.items()}
    if config.get("model_type") not in (None, "SentenceTransformer"):
        raise ValueError(f"{path}: model_type: got {in_short(config['model_type'])}, expected SentenceTransformer")
    if config.get("truncate_dim") is not None:
        raise ValueError(
            f"{path}: truncate_dim: got {in_short(config['truncate_dim'])}, "
            f"expected null: embeddings are trained whole; remove "
            "the key, and list the number in model.matryoshka_dims"
        )
    default = config.get("default_prompt_name")
    if default is not None and not (isinstance(default, str) and default in {"query", "document", *prompts}):
        raise ValueError(
            f"{path}: default_prompt_name: got {in_short(default, quoted=True)}, "
            f"expected one of {in_short(sorted(prompts))}"
        )
    if unknown := sorted(key for key in config.keys() - _KNOWN_SETTINGS if config[key] is not None):
        warnings.warn(
            f"{path}: the keys {joined_in_short(unknown)} are not used, as in sentence-transformers", stacklevel=2
        )
    return {"prompts": prompts, "default_prompt_name": default, "similarity": config.get("similarity_fn_name")}
