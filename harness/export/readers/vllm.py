"""vLLM before and after it learned the names of sentence-transformers 5.4: pooling, projection, length, sizes.

Source: vllm-project/vllm, vllm/transformers_utils/config.py (get_pooling_config, parse_pooling_type,
get_sentence_transformer_tokenizer_config, try_get_dense_modules) at 0036026, and as it was before pull request 54533;
model_executor/models/adapters.py (_load_st_projector). Read, not run.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from harness.export.readers.model_files import DECODERS, NEW_MODULES, OLD_MODULE, ModelFiles, kind_of
from harness.export.readers.verdict import Findings, Reader, Verdict

_SOURCE = "vllm/transformers_utils/config.py, model_executor/models/adapters.py; read"
_OLD = Reader("vLLM, before", "before pull request 54533", _SOURCE)
_NEW = Reader("vLLM", "0036026", _SOURCE)
_POOLINGS = {"CLS": "cls", "LAST": "last", "MEAN": "mean"}
_CLS_BY_DEFAULT = {"bert", "roberta", "xlm-roberta", "camembert", "modernbert", "nomic_bert", "new"}
_ACTIVATIONS = {"identity", "tanh", "gelu", "relu", "silu", "sigmoid"}


def _judge(files: ModelFiles, *, reader: Reader, packages: tuple[str, ...], first_key_only: bool) -> Verdict:
    """packages: of the modules that it knows. first_key_only: whether Pooling's first key that is true decides."""
    found = Findings()
    known = [module for module in files.modules if str(module["type"]).startswith(packages)]
    kinds = {kind_of(module) for module in known}
    settings = files.pooling_settings if "Pooling" in kinds else {}
    _pooling(files, found, _taken(settings, first_key_only))
    if files.dense and "Dense" not in kinds:
        found.differs.append("the projection (Dense) is lost: its name in modules.json is not known")
    for module in known:
        activation = str(files.settings_of(module).get("activation_function") or "identity").rsplit(".", 1)[-1].lower()
        if kind_of(module) == "Dense" and activation not in _ACTIVATIONS:
            found.differs.append(f"{module['path']}: the projection is lost: activation {activation} is not known")
        elif kind_of(module) == "Dense":
            found.notes.append("applies the projection (Dense)")
    if files.norms:
        found.differs.append("LayerNorm after the pooling is not read")
    if files.layout.normalize and "Normalize" not in kinds:
        found.differs.append("vectors do not have length 1: Normalize in modules.json is not known")
    _length(files, found)
    if not files.layout.include_prompt and files.prompts:
        found.differs.append("include_prompt is not read: the tokens of prompts are pooled")
    if files.prompts:
        found.notes.append("puts no prompt before a text: send the prompt as part of the text")
    if not (files.config.get("is_matryoshka") or files.config.get("matryoshka_dimensions")):
        found.notes.append("refuses requests for fewer dimensions: config.json says nothing of Matryoshka")
    return found.verdict(reader)


def _taken(settings: dict[str, Any], first_key_only: bool) -> str | None:
    """The pooling that it takes from 1_Pooling/config.json; None: the default of the architecture."""
    taken = None
    for key, value in settings.items():
        if key == "pooling_mode" and isinstance(value, str) and not first_key_only:
            name = value
        elif value is True:
            name = key
        else:
            continue
        name = name.replace("pooling_mode_", "").split("_", 1)[0]
        name = "LAST" if "lasttoken" in name else name.upper()
        taken = _POOLINGS.get(name, taken)
        if first_key_only:
            break
    return taken


def _pooling(files: ModelFiles, found: Findings, taken: str | None) -> None:
    kind, right = str(files.config.get("model_type")), files.pooling
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


def _length(files: ModelFiles, found: Findings) -> None:
    settings, limit = files.length_settings or {}, files.config.get("max_position_embeddings")
    if {"max_seq_length", "do_lower_case"} <= settings.keys():
        return
    if files.layout.max_length is not None and files.layout.max_length != limit:
        found.differs.append(
            f"takes texts of {limit or 'any number of'} tokens instead of {files.layout.max_length}: "
            "sentence_bert_config.json does not have both max_seq_length and do_lower_case; set --max-model-len"
        )


judge_old = partial(_judge, reader=_OLD, packages=(OLD_MODULE,), first_key_only=True)
judge_new = partial(_judge, reader=_NEW, packages=(OLD_MODULE, *NEW_MODULES), first_key_only=False)
