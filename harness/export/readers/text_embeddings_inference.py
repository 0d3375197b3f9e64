"""text-embeddings-inference: a server in Rust that reads the files itself, and starts only if it finds all it needs.

Source: huggingface/text-embeddings-inference, a branch of 1.9 at 1a7f78b (2026):
- router/src/lib.rs (ModelConfig, PoolConfig, STConfig, NewSTConfig, get_backend_model_type, the longest text);
- backends/candle/src/lib.rs (Config: the model types, and which of them need a GPU), models/qwen3.rs, llama.rs and
  layers/rotary.rs (RopeParameters, RopeScaling); `use_bidirectional_attention` came with pull request 808 (1.9);
- backends/src/lib.rs at 028192f (ModuleType: only the old names; a module of another name hides the projection);
- models/bert.rs at 4d94445, distilbert.rs at 22d0e5f, modernbert.rs and gemma3.rs at 04f5d63, gte.rs at 005a693,
  dense.rs at 0d1b698, backends/ort/src/lib.rs at 04a0215: the fields that a configuration must have, and the rest.
1.8 (qwen3.rs at 04f5d63, flash_qwen2.rs at 040c57e) wants `rope_theta` itself, reads every Qwen3 and Mistral as causal
and every Qwen2 as bidirectional, and knows neither Llama nor DeBERTa. Read, not run.
"""

from __future__ import annotations

from typing import Any

from harness.export.read_by_all import rope_of_transformers_4
from harness.export.readers.model_files import OLD_MODULE, ModelFiles, kind_of
from harness.export.readers.verdict import Findings, Reader, Verdict

READER = Reader(
    "text-embeddings-inference",
    "1.9 (1a7f78b)",
    "router/src/lib.rs, backends/src/lib.rs, backends/candle/src/lib.rs, models/*.rs, layers/rotary.rs; read",
)
_SIZES = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
_BERT = (
    *_SIZES, "hidden_act", "hidden_dropout_prob", "type_vocab_size", "initializer_range", "layer_norm_eps",
    "pad_token_id",
)  # fmt: skip
_DECODER = (*_SIZES, "num_key_value_heads", "hidden_act", "rms_norm_eps")
_GTE = (*_SIZES, "hidden_act", "type_vocab_size", "layer_norm_type", "layer_norm_eps", "position_embedding_type")
# Model types that it has, and the fields without which the configuration of each is not parsed. null is none.
_FIELDS: dict[str, tuple[str, ...]] = {
    "bert": _BERT,
    "camembert": _BERT,
    "roberta": _BERT,
    "xlm-roberta": _BERT,
    "deberta-v2": (
        *_SIZES, "hidden_act", "type_vocab_size", "initializer_range", "layer_norm_eps", "relative_attention",
    ),
    "distilbert": ("vocab_size", "dim", "n_layers", "n_heads", "hidden_dim", "activation", "pad_token_id"),
    "gemma3_text": (
        *_SIZES, "attention_bias", "pad_token_id", "hidden_activation", "num_key_value_heads", "query_pre_attn_scalar",
        "rms_norm_eps", "rope_local_base_freq", "_sliding_window_pattern",
    ),
    "gte": (*_GTE, "rope_theta"),
    "new": (*_GTE, "rope_theta"),
    "llama": (*_DECODER, "initializer_range"),
    "llama_bidirec": (*_DECODER, "initializer_range"),
    "mistral": (*_DECODER, "initializer_range"),
    "modernbert": (
        *_SIZES, "hidden_activation", "initializer_range", "initializer_cutoff_factor", "norm_eps", "norm_bias",
        "pad_token_id", "eos_token_id", "bos_token_id", "cls_token_id", "sep_token_id", "attention_bias",
        "attention_dropout", "global_rope_theta", "local_rope_theta", "global_attn_every_n_layers", "local_attention",
        "classifier_activation",
    ),
    "mpnet": (
        *_SIZES, "hidden_act", "hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range",
        "layer_norm_eps", "relative_attention_num_buckets",
    ),
    "nomic_bert": (),
    "qwen2": (*_DECODER, "use_sliding_window"),
    "qwen3": (*_DECODER, "attention_bias", "use_sliding_window", "eos_token_id"),
}  # fmt: skip
_WITH_ROPE_THETA = {"gemma3_text", "llama", "llama_bidirec", "mistral", "qwen2", "qwen3"}  # or in rope_parameters
_SCALED = {"gte", "llama", "llama_bidirec", "mistral", "new"}  # those that read rope_scaling
_ON_GPUS_ONLY = {"llama", "llama_bidirec", "mistral", "qwen2"}
# The key that lets a token see those after it, and its value then.
_BOTH_WAYS = ("use_bidirectional_attention", True)
_KEY_OF_BOTH_WAYS = {
    "llama": _BOTH_WAYS, "llama_bidirec": _BOTH_WAYS, "mistral": _BOTH_WAYS, "qwen3": _BOTH_WAYS,
    "qwen2": ("is_causal", False),
}  # fmt: skip
_FLAGS = ("cls_token", "mean_tokens")  # both must be there
_POOLING_OF_FLAG = {"cls_token": "cls", "mean_tokens": "mean", "lasttoken": "last"}  # in the order of the questions
_MODULES = {OLD_MODULE + name for name in ("Transformer", "Pooling", "Dense", "Normalize")}
_ACTIVATIONS = (None, "torch.nn.modules.activation.Tanh", "torch.nn.modules.linear.Identity")
_BATCH_TOKENS = 16_384  # --max-batch-tokens unless set


def judge(files: ModelFiles) -> Verdict:
    """What the server makes of the folder. With weights and an ONNX file, its GPU images take the former."""
    found = Findings()
    has_weights = files.has("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin")
    has_onnx = (files.folder / "onnx" / "model.onnx").is_file() or (files.folder / "model.onnx").is_file()
    _router(files, found)
    if not has_weights and not has_onnx:
        found.refuses.append("no weights (model.safetensors or onnx/model.onnx)")
    if files.model_type not in _FIELDS and not has_onnx:
        found.refuses.append(
            f"config.json: model type {files.model_type} is none of its own, and there is no onnx/model.onnx"
        )
    elif files.model_type in _FIELDS and (has_weights or not has_onnx):
        _backbone(files, found)
        _attention(files, found)
        _rotary(files, found)
    _pooling(files, found)
    _length(files, found)
    _head(files, found, has_onnx=has_onnx)
    if files.layout.lower_case:
        found.differs.append("do_lower_case is not read: texts are not lower-cased")
    if files.prompts:
        found.notes.append(
            "a prompt is used only where a request names it (prompt_name), or with --default-prompt-name"
        )
    if files.layout.normalize is False:
        found.notes.append("gives vectors of length 1 unless a request says normalize: false")
    return found.verdict(READER)


def _router(files: ModelFiles, found: Findings) -> None:
    """What it asks of every folder before it looks at the model."""
    if files.layout.backbone:
        found.refuses.append(f"config.json lies in {files.layout.backbone}, not in the folder itself")
    if not files.has("tokenizer.json"):
        found.refuses.append("no tokenizer.json")
    if not isinstance(_first(files.config, "max_position_embeddings", "n_positions"), int):
        found.refuses.append("config.json: no max_position_embeddings")
    names = files.config.get("architectures")
    if not isinstance(names, list):
        found.refuses.append("config.json: no architectures")
    elif any(str(name).endswith("Classification") for name in names):
        found.refuses.append("config.json: architectures has a classifier: it is served as one, without embeddings")


def _backbone(files: ModelFiles, found: Findings) -> None:
    kind = files.model_type
    for key in _FIELDS[kind]:
        value = files.config.get(key)
        if value is None:
            found.refuses.append(f"config.json: missing field {key}")
        elif key.endswith("_token_id") and not isinstance(value, int):
            found.refuses.append(f"config.json: {key} is no number")
    if kind in ("qwen2", "qwen3") and files.config.get("use_sliding_window"):
        found.refuses.append(f"config.json: use_sliding_window is not supported for {kind}")
    if kind in _ON_GPUS_ONLY:
        found.notes.append(f"runs {kind} on GPUs only, in float16 with flash attention")
    elif "gelu" in (files.config.get(key) for key in ("hidden_act", "hidden_activation", "activation")):
        found.notes.append("computes gelu by its tanh approximation: vectors differ a little")
    if kind == "qwen2":
        found.notes.append("whether it finds weights whose names do not begin with model. is not tried here")


def _attention(files: ModelFiles, found: Findings) -> None:
    """Which tokens a token sees: each decoder has a key of its own, Gemma 3 has none."""
    kind = files.model_type
    if kind == "gemma3_text":
        if not files.looks_both_ways_by_own_key:
            found.differs.append("a token sees those after it: every gemma3_text is taken for a bidirectional one")
        return
    key, value = _KEY_OF_BOTH_WAYS.get(kind, ("", None))
    if files.looks_both_ways and files.config.get(key) is not value:
        found.differs.append(f"config.json: no {key}: true: a token does not see those after it")
    elif not files.looks_both_ways and key and files.config.get(key) is value:
        found.differs.append(f"config.json: {key}: true: a token sees those after it")
    elif files.looks_both_ways:
        found.notes.append("1.8 reads it as causal" if kind != "qwen2" else "1.8 reads every qwen2 as bidirectional")
    elif kind == "qwen2":
        found.notes.append("1.8 reads every qwen2 as bidirectional")


def _rotary(files: ModelFiles, found: Findings) -> None:
    kind, config = files.model_type, files.config
    parameters = config.get("rope_parameters")
    scaling = rope_of_transformers_4(config).get("rope_scaling") or config.get("rope_scaling")
    if kind in _WITH_ROPE_THETA:
        if isinstance(parameters, dict) and not {"rope_theta", "rope_type"} <= parameters.keys():
            found.refuses.append("config.json: rope_parameters: missing field rope_theta or rope_type")
        elif config.get("rope_theta") is None and parameters is None:
            found.refuses.append("config.json: neither rope_theta nor rope_parameters.rope_theta")
        elif config.get("rope_theta") is None:
            found.notes.append("1.8 does not start: config.json: missing field rope_theta")
    if scaling and kind not in _SCALED:
        found.differs.append(f"config.json: rope_scaling is not read for {kind}")
    elif scaling and config.get("rope_scaling") is None:
        found.differs.append("config.json: rope_scaling stands in rope_parameters only, where it is not read")
    elif scaling and scaling.get("rope_type", scaling.get("type")) not in ("llama3", "ntk"):
        found.differs.append("config.json: rope_scaling: it has llama3 and ntk only")


def _pooling(files: ModelFiles, found: Findings) -> None:
    path = files.folder / "1_Pooling" / "config.json"
    if not path.is_file():
        if "bert" not in files.model_type:
            found.refuses.append("no 1_Pooling/config.json: start it with --pooling")
        elif files.pooling != ("cls",):
            found.differs.append("no 1_Pooling/config.json: takes the pooling cls; start it with --pooling")
        return
    settings = files.settings_of({"path": "1_Pooling"})
    for name in _FLAGS:
        if not isinstance(settings.get(f"pooling_mode_{name}"), bool):
            found.refuses.append(f"1_Pooling/config.json: missing field pooling_mode_{name}; start it with --pooling")
            return
    taken = next((mode for flag, mode in _POOLING_OF_FLAG.items() if settings.get(f"pooling_mode_{flag}")), None)
    if taken is None:
        found.refuses.append(f"pooling {' + '.join(files.pooling)} is not supported")
    elif (taken,) != files.pooling:
        found.differs.append(f"takes the pooling {taken} instead of {' + '.join(files.pooling)}")
    if taken == "last" and files.model_type == "modernbert":
        found.refuses.append("pooling last is not supported for modernbert")
    if not files.layout.include_prompt and files.prompts:
        found.differs.append("include_prompt is not read: the tokens of prompts are pooled")


def _length(files: ModelFiles, found: Findings) -> None:
    settings = files.length_settings
    if settings is None:
        found.notes.append("no sentence_bert_config.json: takes texts as long as the backbone has positions")
        return
    length = settings.get("max_seq_length")
    if not isinstance(length, int) or isinstance(length, bool):
        found.refuses.append("sentence_bert_config.json: missing field max_seq_length")
    elif length > _BATCH_TOKENS:
        found.differs.append(
            f"cuts texts to {_BATCH_TOKENS} tokens instead of {length}: set --max-batch-tokens {length}"
        )


def _head(files: ModelFiles, found: Findings, *, has_onnx: bool) -> None:
    """One module that it does not know makes it ignore all of modules.json, and with it the projection."""
    unknown = [str(module["type"]) for module in files.modules if module["type"] not in _MODULES]
    if unknown and files.dense:
        found.differs.append(f"modules.json: does not know {unknown[0]}, so that the projection (Dense) is dropped")
    elif unknown and files.norms:
        found.differs.append("modules.json: the LayerNorm is dropped")
    for module in files.modules:
        if kind_of(module) == "Dense" and not unknown:
            settings = files.settings_of(module)
            if settings.get("activation_function") not in _ACTIVATIONS:
                found.refuses.append(f"{module['path']}: activation {settings['activation_function']} is unknown to it")
            if "activation_function" not in settings:
                found.differs.append(f"{module['path']}: takes no activation, not Tanh, for it names none")
            if settings.get("use_residual"):
                found.differs.append(f"{module['path']}: use_residual is not read")
    if files.dense and not unknown:
        where = "; of an ONNX file it takes sentence_embedding, which must hold it" if has_onnx else ""
        found.notes.append(f"applies the projection (Dense){where}")


def _first(config: dict[str, Any], *keys: str) -> Any:
    return next((config[key] for key in keys if config.get(key) is not None), None)
