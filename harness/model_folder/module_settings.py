"""Reads the configuration of each kind of sentence-transformers module: Transformer, Pooling, and those of the head.

A key that is not known here, or a value that would change embeddings in a way this project does not follow, is refused
with its name: ignoring it would give other embeddings than the folder's, silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.model_folder.json_files import read_json
from harness.model_folder.pooling import POOLINGS, PoolingMode
from harness.model_folder.weight_files import check_weights_file
from harness.settings.in_short import in_short

HEAD_KINDS = frozenset({"Dense", "LayerNorm", "Normalize", "Dropout"})

# Oldest folders name the file after the class of their backbone. The first that is there and not empty counts.
_TRANSFORMER_FILES = tuple(
    f"sentence_{name}_config.json"
    for name in ("bert", "roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
)
# Keys of the Transformer module that may hold one of these values only.
_ONLY_VALUES: dict[str, tuple[Any, ...]] = {
    "transformer_task": (None, "feature-extraction"),
    "module_output_name": (None, "token_embeddings"),
    "modality_config": (None, {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}),
    "processing_kwargs": (None, {}),
    "query_length": (None,),
    "document_length": (None,),
    "query_expansion": (None,),
    "tokenizer_name_or_path": (None,),
}
# Keys of the Transformer module that hold arguments for transformers, by old and new name. Of these arguments, the ones
# named here are read, or change only how numbers are computed; any other one is refused.
_ARGUMENTS: dict[str, frozenset[str]] = {
    **dict.fromkeys(
        ("model_args", "model_kwargs"),
        frozenset({"torch_dtype", "dtype", "attn_implementation", "add_pooling_layer", "low_cpu_mem_usage"}),
    ),
    **dict.fromkeys(
        ("tokenizer_args", "processor_kwargs"), frozenset({"model_max_length", "padding_side", "use_fast"})
    ),
    **dict.fromkeys(("config_args", "config_kwargs"), frozenset({"use_cache", "is_causal"})),
}
_UNTRUSTED = "trust_remote_code"  # sentence-transformers removes it from a folder's arguments; so does this project


@dataclass(frozen=True, slots=True)
class TransformerSettings:
    """How texts become tokens. max_length: tokens; None if the file does not say.

    is_causal: of an adapter, which attention it was trained with; None: that of the model that it changes.
    """

    max_length: int | None
    lower_case: bool
    is_causal: bool | None = None


@dataclass(frozen=True, slots=True)
class PoolingSettings:
    """How token states become one vector."""

    modes: tuple[PoolingMode, ...]
    include_prompt: bool


def read_transformer(folder: Path) -> TransformerSettings:
    """The settings of the Transformer module in this folder.

    Raises:
        ValueError: a key that is not known, or a value that cannot be followed.
    """
    files = [folder / name for name in _TRANSFORMER_FILES if (folder / name).is_file()]
    contents = [(file, read_json(file, dict)) for file in files]
    path, config = next(((file, content) for file, content in contents if content), (folder, dict[str, Any]()))
    _check_keys(path, config, {"max_seq_length", "do_lower_case", "unpad_inputs", *_ONLY_VALUES, *_ARGUMENTS})
    for key, allowed in _ONLY_VALUES.items():
        if config.get(key) not in allowed:
            raise ValueError(
                f"{path}: {key}: got {in_short(config[key])}, "
                f"expected {allowed[-1]}; embeddings made in another way cannot be "
                "reproduced here"
            )
    length, is_causal = config.get("max_seq_length"), None
    for key, known in _ARGUMENTS.items():
        arguments = config.get(key) or {}
        if not isinstance(arguments, dict):
            raise ValueError(
                f"{path}: {key}: got {in_short(arguments)}, expected an object of arguments; correct the file"
            )
        _check_keys(path, arguments, known | {_UNTRUSTED}, f"{key}.")
        length, is_causal = arguments.get("model_max_length", length), arguments.get("is_causal", is_causal)
    if length is not None and not (isinstance(length, int | float) and 1 <= length < float("inf")):
        raise ValueError(
            f"{path}: max_seq_length: got {in_short(length, quoted=True)}, "
            f"expected a number of tokens; correct the file"
        )
    if not isinstance(is_causal, bool | None):
        raise ValueError(f"{path}: is_causal: got {in_short(is_causal)}, expected true or false; correct the file")
    return TransformerSettings(None if length is None else int(length), bool(config.get("do_lower_case")), is_causal)


def read_pooling(folder: Path) -> PoolingSettings:
    """The settings of the Pooling module in this folder.

    Raises:
        ValueError: the file is missing, or it names a pooling that is not known.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(
            f"{path}: got no such file, expected the configuration of the Pooling module, which modules.json lists; "
            "download the model again"
        )
    config = read_json(path, dict)
    flags = {pooling.legacy_flag: mode for mode, pooling in POOLINGS.items()}
    _check_keys(
        path, config, {"embedding_dimension", "word_embedding_dimension", "pooling_mode", "include_prompt", *flags}
    )
    names = config.get("pooling_mode")
    if names is None:  # the older form; sentence-transformers takes the mean if no flag is true
        modes = tuple(mode for flag, mode in flags.items() if config.get(flag)) or ("mean",)
        return PoolingSettings(modes, bool(config.get("include_prompt", True)))
    mode_of_name = {pooling.sentence_transformers_name: mode for mode, pooling in POOLINGS.items()}
    names = [names] if isinstance(names, str) else names
    if (
        not isinstance(names, list)
        or not names
        or not all(isinstance(name, str) and name in mode_of_name for name in names)
    ):
        raise ValueError(
            f"{path}: pooling_mode: got {in_short(names)}, expected one or several of {', '.join(mode_of_name)}"
        )
    return PoolingSettings(tuple(mode_of_name[name] for name in names), bool(config.get("include_prompt", True)))


def check_head_module(kind: str, folder: Path) -> None:
    """Check that a module of the head can be reproduced: its keys are known, and its weights are whole safetensors.

    Raises:
        ValueError: it cannot.
    """
    if kind not in HEAD_KINDS:
        raise ValueError(
            f"{folder}: got a second {kind} module, expected {', '.join(sorted(HEAD_KINDS))} after Pooling"
        )
    path = folder / "config.json"
    config = read_json(path, dict) if path.is_file() else {}
    known = {
        "Dense": {"in_features", "out_features", "bias", "activation_function", "use_residual"},
        "LayerNorm": {"dimension"},
        "Dropout": {"dropout"},
        "Normalize": set(),
    }[kind]
    _check_keys(path, config, known | {"module_input_name", "module_output_name"})
    for key in ("module_input_name", "module_output_name"):
        if config.get(key) not in (None, "sentence_embedding"):
            raise ValueError(
                f"{path}: {key}: got {in_short(config[key])}, "
                f"expected sentence_embedding: a {kind} layer is applied to the "
                "pooled vector only"
            )
    if kind in ("Dense", "LayerNorm"):
        _check_weights(kind, folder, config)


def _check_weights(kind: str, folder: Path, config: Mapping[str, Any]) -> None:
    sizes = ("in_features", "out_features") if kind == "Dense" else ("dimension",)
    if missing := [key for key in sizes if not isinstance(config.get(key), int)]:
        raise ValueError(
            f"{folder / 'config.json'}: got no {missing[0]}, expected the configuration of the {kind} module, which "
            "modules.json lists; download the model again"
        )
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    if not activation.startswith("torch.nn."):
        raise ValueError(
            f"{folder / 'config.json'}: activation_function: got {in_short(activation)}, "
            f"expected a class of torch.nn; other "
            "code is not run"
        )
    if not (folder / "model.safetensors").is_file():
        raise ValueError(
            f"{folder}: got no model.safetensors, expected the weights of the {kind} module; only safetensors are "
            "loaded, because opening a pickle can run code: convert pytorch_model.bin with safetensors first"
        )
    check_weights_file(folder / "model.safetensors")


def _check_keys(path: Path, config: Mapping[str, Any], known: set[str] | frozenset[str], prefix: str = "") -> None:
    if unknown := sorted(key for key in config.keys() - known if config[key] is not None):
        raise ValueError(
            f"{path}: got the key {prefix}{in_short(unknown[0])}, which is not known here, expected "
            f"{', '.join(sorted(known)) or 'no keys'}; remove it if embeddings do not depend on it"
        )
