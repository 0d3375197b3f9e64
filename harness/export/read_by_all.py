"""Rewrites a folder that sentence-transformers has saved in the form that older and other readers know as well.

sentence-transformers >= 5.4 saves new names for what every version before, and every server, calls otherwise;
transformers 5 does so for the configuration. Both read the old names, too. `harness/export/readers/` says what each
reader takes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.model_folder.pooling import POOLINGS, PoolingMode

_OLD_MODULE = "sentence_transformers.models.{}"
_KEYS_OF_MODULES = {
    "Dense": ("in_features", "out_features", "bias", "activation_function"),
    "LayerNorm": ("dimension",),
    "Dropout": ("dropout",),
}
_FOR_GRANTED = ("module_input_name", "module_output_name")  # always sentence_embedding here, as in every old version
# transformers 4 knows the first; the second is what transformers 5 calls the same class.
OLD_TOKENIZER_CLASS, NEW_TOKENIZER_CLASS = "PreTrainedTokenizerFast", "TokenizersBackend"
# In transformers 4 these put a token before every text and none behind it, whatever tokenizer.json says, unless
# tokenizer_config.json has `add_bos_token` and `add_eos_token`, which transformers 5 does not write.
OWN_FRAME_IN_TRANSFORMERS_4 = frozenset(
    name + fast for name in ("CodeLlamaTokenizer", "CohereTokenizer", "GemmaTokenizer", "LlamaTokenizer")
    for fast in ("", "Fast")
)  # fmt: skip
# What transformers 4 calls the base of the rotary positions in layers that see all, and in layers that see a window.
ROPE_BASES = {"modernbert": ("global_rope_theta", "local_rope_theta")}
ROPE_BASES_OF_WINDOWS = ("rope_theta", "rope_local_base_freq")  # of Gemma 3 and of others with two kinds of layers
# Decoders that text-embeddings-inference reads both ways by this key, and transformers and vLLM by `is_causal`.
_BOTH_WAYS_BY_TWO_KEYS = ("llama", "mistral", "qwen3")
KEY_OF_BOTH_WAYS = "use_bidirectional_attention"
# Models that have other names for the base and for the rotated part.
_OWN_ROPE_NAMES = {"gpt_neox": {"rope_theta": "rotary_emb_base", "partial_rotary_factor": "rotary_pct"}}


def rewrite_for_all_readers(
    folder: Path,
    *,
    pooling: Sequence[PoolingMode],
    token_dim: int,
    include_prompt: bool,
    max_length: int,
    matryoshka_dims: Sequence[int] | None,
    model_input_names: Sequence[str],
) -> None:
    """Rewrite the JSON files of a folder that `SentenceTransformer.save_pretrained` has written.

    token_dim: dimensions of a token's state. max_length: tokens. model_input_names: what the tokenizer gives a model.
    """
    _modules(folder)
    _write(folder / "1_Pooling" / "config.json", pooling_settings(pooling, token_dim, include_prompt))
    # Lower-casing stands in tokenizer.json already, where every reader finds it.
    _write(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})
    _configuration(folder / "config.json", matryoshka_dims)
    _tokenizer(folder, model_input_names, max_length)


def pooling_settings(modes: Sequence[PoolingMode], token_dim: int, include_prompt: bool) -> dict[str, Any]:
    """1_Pooling/config.json: a flag per pooling.

    Flags have no order. Several modes in another order than that of the flags are written as a list, which only
    sentence-transformers >= 5.4 reads: others refuse it, and would put the parts of the vector in another order.
    include_prompt comes last, because older vLLM takes the first key that is true for the pooling.
    """
    in_order = [mode for mode in POOLINGS if mode in modes]
    if list(modes) != in_order:
        names = [POOLINGS[mode].sentence_transformers_name for mode in modes]
        return {"embedding_dimension": token_dim, "pooling_mode": names, "include_prompt": include_prompt}
    flags = {pooling.legacy_flag: mode in modes for mode, pooling in POOLINGS.items()}
    return {"word_embedding_dimension": token_dim, **flags, "include_prompt": include_prompt}


def rope_of_transformers_4(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys with which transformers 4, and servers that read config.json themselves, know the rotary positions.

    config: config.json as transformers 5 writes it; empty if it has no `rope_parameters`.
    """
    parameters = config.get("rope_parameters")
    if not isinstance(parameters, dict):
        return {}
    kind = str(config.get("model_type"))
    if "full_attention" in parameters or "sliding_attention" in parameters:
        of_layers = [parameters.get(f"{layers}_attention") or {} for layers in ("full", "sliding")]
        names = ROPE_BASES.get(kind, ROPE_BASES_OF_WINDOWS)
        found = {name: of["rope_theta"] for name, of in zip(names, of_layers, strict=True) if "rope_theta" in of}
        return found | _scaling(of_layers[0])
    names_of_kind = _OWN_ROPE_NAMES.get(kind, {})
    keys = ("rope_theta", "partial_rotary_factor")
    found = {names_of_kind.get(key, key): parameters[key] for key in keys if parameters.get(key) is not None}
    return found | _scaling(parameters)


def _scaling(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """How positions are stretched, if they are."""
    if parameters.get("rope_type", "default") == "default":
        return {}
    return {"rope_scaling": {k: v for k, v in parameters.items() if k not in ("rope_theta", "partial_rotary_factor")}}


def _modules(folder: Path) -> None:
    """Old names in modules.json, and only the keys that old versions know in each module's configuration."""
    modules = _read(folder / "modules.json")
    for module in modules:
        kind = str(module["type"]).rsplit(".", 1)[-1]
        module["type"] = _OLD_MODULE.format(kind)
        file = folder / module["path"] / "config.json"
        if not module["path"] or kind == "Pooling" or not file.is_file():
            continue
        known, settings = _KEYS_OF_MODULES.get(kind, ()), _read(file)
        # Any other key is one that all versions take for granted, or, as use_residual, one that older ones must refuse.
        _write(
            file, {key: value for key, value in settings.items() if key in known or (key not in _FOR_GRANTED and value)}
        )
    _write(folder / "modules.json", modules)


def _configuration(path: Path, matryoshka_dims: Sequence[int] | None) -> None:
    """config.json: the names of transformers 4 and of servers for rotary positions and for bidirectional attention,
    and what vLLM asks for before it cuts a vector.

    A model that is not trained for several sizes loses the keys of the model that it started from.
    """
    config = _read(path)
    for key in ("matryoshka_dimensions", "is_matryoshka"):
        config.pop(key, None)
    if matryoshka_dims:
        config |= {"is_matryoshka": True, "matryoshka_dimensions": list(matryoshka_dims)}
    if config.get("model_type") in _BOTH_WAYS_BY_TWO_KEYS:
        config.pop(KEY_OF_BOTH_WAYS, None)
        if config.get("is_causal") is False:
            config[KEY_OF_BOTH_WAYS] = True
    config |= rope_of_transformers_4(config)
    if config.get("model_type") == "modernbert" and "norm_eps" in config:
        config["layer_norm_eps"] = config["norm_eps"]  # llama.cpp's converter knows this name only
    if config.get("model_type") == "gemma3_text" and "rope_scaling" not in config:
        # text-embeddings-inference stops at the two entries of Gemma 3; transformers 5 reads the older names as well.
        config.pop("rope_parameters", None)
    _write(path, config)


def _tokenizer(folder: Path, model_input_names: Sequence[str], max_length: int) -> None:
    """tokenizer_config.json: a class that both versions of transformers know, special tokens as both read them, and one
    length."""
    config = _read(folder / "tokenizer_config.json")
    if config.get("tokenizer_class") in {NEW_TOKENIZER_CLASS, *OWN_FRAME_IN_TRANSFORMERS_4}:
        # The class of transformers 4 would give a model token types that it may not take.
        config |= {"tokenizer_class": OLD_TOKENIZER_CLASS, "model_input_names": list(model_input_names)}
    if isinstance(config.get("extra_special_tokens"), list):  # in transformers 4 an object of other tokens
        config["additional_special_tokens"] = config.pop("extra_special_tokens")
    for key in ("is_local", "local_files_only", "vocab_file"):  # how this machine has found the tokenizer
        config.pop(key, None)
    if "max_length" in config:  # left from a call long ago; fastembed takes the smaller of it and model_max_length
        config["max_length"] = max_length
    if joins_blanks(_read(folder / "tokenizer.json") if (folder / "tokenizer.json").is_file() else {}):
        # It says how tokens become a text again. llama.cpp's converter takes it for: several blanks are one.
        config["clean_up_tokenization_spaces"] = True
    _write(folder / "tokenizer_config.json", config)


def joins_blanks(tokenizer: Mapping[str, Any]) -> bool:
    """Whether this tokenizer.json is that of a Unigram model, as XLM-R's, to which several blanks are one."""
    pre = tokenizer.get("pre_tokenizer") or {}
    parts = [part.get("type") for part in pre.get("pretokenizers", [pre])]
    return (tokenizer.get("model") or {}).get("type") == "Unigram" and "WhitespaceSplit" in parts


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
