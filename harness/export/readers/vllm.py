"""vLLM before and after it learned the names of sentence-transformers 5.4: pooling, projection, length, sizes.

Source: vllm-project/vllm, releases 0.29.0 (2026-09-09) and 0.33.0 (2026-11-02):
- vllm/transformers_utils/config.py: get_pooling_config, parse_pooling_type, get_sentence_transformer_tokenizer_config,
  try_get_dense_modules. The names of 5.4 came with pull request 54533, first in 0.30.0; until 0.31.0 at least, a length
  counts only beside do_lower_case;
- model_executor/models/adapters.py (_load_st_projector) and layers/activation.py (get_act_fn): the projection;
- config/model.py: the default pooling, length and number type; models/registry.py, interfaces_base.py, llama.py,
  qwen2.py, qwen3.py, gemma3.py, config.py: the architecture's default pooling, and who obeys is_causal.
0.11.0 (2025-10-04) takes the first key of Pooling that is true, and stops at one that it does not support. Read, not
run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from harness.export.readers.model_files import DECODERS, OLD_MODULE, ModelFiles, kind_of
from harness.export.readers.verdict import Findings, Reader, Verdict

_SOURCE = "vllm/transformers_utils/config.py, config/model.py, model_executor/models/adapters.py; read"
_BASE, _OWN = "sentence_transformers.base.modules.", "sentence_transformers.sentence_transformer.modules."


@dataclass(frozen=True, slots=True)
class _Version:
    """reader: its name. modules: type in modules.json → kind. length_keys: without all of them there is no length."""

    reader: Reader
    modules: dict[str, str]
    length_keys: frozenset[str]


_OLD_NAMES = {OLD_MODULE + kind: kind for kind in ("Pooling", "Normalize", "Dense")}
_NEW_NAMES = {
    f"{_OWN}pooling.Pooling": "Pooling",
    f"{_BASE}normalize.Normalize": "Normalize",
    f"{_OWN}normalize.Normalize": "Normalize",
    f"{_BASE}dense.Dense": "Dense",
}
_OLD = _Version(Reader("vLLM, before", "0.29.0", _SOURCE), _OLD_NAMES, frozenset({"max_seq_length", "do_lower_case"}))
_NEW = _Version(Reader("vLLM", "0.33.0", _SOURCE), _OLD_NAMES | _NEW_NAMES, frozenset({"max_seq_length"}))

_POOLINGS = {"CLS": "cls", "LAST": "last", "MEAN": "mean"}
_CLS_BY_DEFAULT = {"bert", "roberta", "xlm-roberta", "camembert", "modernbert", "nomic_bert", "new"}
_OBEYS_IS_CAUSAL = {"llama", "mistral", "phi3", "qwen2", "qwen3"}
_ACTIVATIONS = {
    "gelu", "gelu_fast", "gelu_new", "gelu_pytorch_tanh", "relu", "relu2", "silu", "swish", "quick_gelu", "tanh",
    "sigmoid", "xielu",
}  # fmt: skip
_OF_TORCH = "torch.nn.modules."  # before the name of an activation; without it the whole name counts


def _judge(files: ModelFiles, *, version: _Version) -> Verdict:
    found = Findings()
    known = {version.modules[kind]: module for module in files.modules if (kind := module["type"]) in version.modules}
    settings = files.pooling_settings if "Pooling" in known else {}
    _pooling(files, found, _taken(settings, version))
    _length_one(files, found, known)
    _projection(files, found, version)
    _length(files, found, version)
    if files.norms:
        found.differs.append("LayerNorm after the pooling is not read")
    if files.looks_both_ways and files.model_type not in _OBEYS_IS_CAUSAL:
        found.differs.append(f"config.json: is_causal: false is not read for {files.model_type}")
    if not files.layout.include_prompt and files.prompts:
        found.differs.append("include_prompt is not read: the tokens of prompts are pooled")
    if version is _OLD and settings:
        found.notes += _notes_of_0_11(settings, files)
    _note(files, found)
    return found.verdict(version.reader)


def _taken(settings: dict[str, Any], version: _Version) -> str | None:
    """The pooling that it takes from 1_Pooling/config.json: the last that it has; None: the architecture's default."""
    taken = None
    for key, value in settings.items():
        is_name = key == "pooling_mode" and isinstance(value, str) and version is _NEW
        name = value if is_name else key if value is True else ""
        taken = _POOLINGS.get(_short(name), taken)
    return taken


def _short(name: str) -> str:
    """`pooling_mode_mean_tokens` → `MEAN`."""
    name = name.replace("pooling_mode_", "").split("_", 1)[0]
    return "LAST" if "lasttoken" in name else name.upper()


def _notes_of_0_11(settings: dict[str, Any], files: ModelFiles) -> list[str]:
    """What version 0.11 does with the same file, where that is something else."""
    first = next((key for key, value in settings.items() if value is True), None)
    if first is None or _POOLINGS.get(_short(first)) == _taken(settings, _OLD):
        return []
    if _short(first) not in _POOLINGS:
        return [f"0.11 stops with an error: it takes {first} for a pooling, the first key that is true"]
    return [f"0.11 takes the pooling {_POOLINGS[_short(first)]}, the first key that is true"]


def _pooling(files: ModelFiles, found: Findings, taken: str | None) -> None:
    kind, right = files.model_type, files.pooling
    default = "last" if kind in DECODERS else "cls" if kind in _CLS_BY_DEFAULT else None
    way_out = "set --pooler-config" if len(right) == 1 and right[0] in _POOLINGS.values() else "it has no such pooling"
    # Both have the same direction, and only this is left if the vector is normalised at once.
    is_same = (
        right == ("mean_sqrt_len_tokens",) and taken == "mean" and files.layout.normalize and not files.layout.head
    )
    if taken is None and (default is None or (default,) != right):
        whose = "the default of the architecture" if default is None else f"the architecture's default, {default},"
        found.differs.append(f"takes {whose} instead of the pooling {' + '.join(right)}; {way_out}")
    elif taken is not None and (taken,) != right and not is_same:
        found.differs.append(f"takes the pooling {taken} instead of {' + '.join(right)}; {way_out}")


def _length_one(files: ModelFiles, found: Findings, known: dict[str, dict[str, Any]]) -> None:
    """Whether vectors have length 1: by modules.json if Pooling is known to it, else always."""
    gives = "Normalize" in known if "Pooling" in known else True
    if files.layout.normalize and not gives:
        found.differs.append("vectors do not have length 1: Normalize in modules.json is not known")
    if files.layout.normalize is False and gives:
        found.differs.append("vectors have length 1, for it does not know Pooling in modules.json")


def _projection(files: ModelFiles, found: Findings, version: _Version) -> None:
    for module in files.modules:
        if kind_of(module) != "Dense":
            continue
        settings, place = files.settings_of(module), module["path"]
        activation = str(settings.get("activation_function") or f"{_OF_TORCH}linear.Identity").lower()
        short = activation.rsplit(".", 1)[-1] if activation.startswith(_OF_TORCH) else activation
        if version.modules.get(module["type"]) != "Dense":
            found.differs.append("the projection (Dense) is lost: its name in modules.json is not known")
        elif short not in _ACTIVATIONS | {"identity"}:
            found.differs.append(f"{place}: the projection is lost: activation {short} is not known")
        else:
            found.notes.append("applies the projection (Dense)")
        if "activation_function" not in settings:
            found.differs.append(f"{place}: takes no activation, not Tanh, for it names none")
        if settings.get("use_residual"):
            found.differs.append(f"{place}: use_residual is not read")


def _length(files: ModelFiles, found: Findings, version: _Version) -> None:
    settings, limit = files.length_settings or {}, files.config.get("max_position_embeddings")
    missing = " and ".join(sorted(version.length_keys - settings.keys()))
    if not missing:
        found.notes.append("refuses longer texts unless a request says truncate_prompt_tokens: -1")
        return
    if files.layout.max_length is not None and files.layout.max_length != limit:
        found.differs.append(
            f"takes texts of {limit or 'any number of'} tokens instead of {files.layout.max_length}: "
            f"sentence_bert_config.json has no {missing}; set --max-model-len"
        )
    if files.layout.lower_case:
        found.differs.append(f"texts are not lower-cased: sentence_bert_config.json has no {missing}")


def _note(files: ModelFiles, found: Findings) -> None:
    if files.prompts:
        found.notes.append("puts no prompt before a text: send the prompt as part of the text")
    if files.config.get("dtype", files.config.get("torch_dtype")) in (None, "float32"):
        found.notes.append("computes in half precision unless --dtype float32 is set")
    if not (files.config.get("is_matryoshka") or files.config.get("matryoshka_dimensions")):
        found.notes.append("refuses requests for fewer dimensions: config.json says nothing of Matryoshka")


judge_old = partial(_judge, version=_OLD)
judge_new = partial(_judge, version=_NEW)
