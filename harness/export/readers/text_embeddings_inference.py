"""text-embeddings-inference: a server in Rust that reads the files itself, and starts only if it finds all it needs.

Source: huggingface/text-embeddings-inference 0d124dc (2026-07-24), router/src/lib.rs (PoolConfig, STConfig),
backends/src/lib.rs (ModuleType), backends/candle/src/models/ (dense.rs, modernbert.rs, qwen3.rs). Read, not run.
"""

from __future__ import annotations

from typing import Any

from harness.export.readers.model_files import OLD_MODULE, ModelFiles, kind_of
from harness.export.readers.verdict import Findings, Reader, Verdict

READER = Reader(
    "text-embeddings-inference",
    "0d124dc (2026-07-24)",
    "router/src/lib.rs, backends/src/lib.rs, backends/candle/src/models/*.rs; read",
)
_ARCHITECTURES = {
    "bert", "camembert", "distilbert", "gemma3_text", "gte", "jina_bert", "mistral", "modernbert", "mpnet", "new",
    "nomic_bert", "qwen2", "qwen3", "roberta", "xlm-roberta",
}  # fmt: skip
# Keys without which the configuration of these models is not parsed, beside those that every version writes.
_NEEDED = {
    "modernbert": ("global_rope_theta", "local_rope_theta", "global_attn_every_n_layers", "local_attention"),
    "qwen2": ("rope_theta",),
    "qwen3": ("rope_theta", "eos_token_id", "use_sliding_window", "attention_bias"),
    "mistral": ("rope_theta",),
    "gemma3_text": ("rope_theta", "rope_local_base_freq"),
}
_FLAGS = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens")  # all four must be there
_POOLING_OF_FLAG = {"cls_token": "cls", "mean_tokens": "mean", "lasttoken": "last"}  # in the order of the questions
_MODULES = {OLD_MODULE + name for name in ("Transformer", "Pooling", "Dense", "Normalize")}
_ACTIVATIONS = (None, "torch.nn.modules.activation.Tanh", "torch.nn.modules.linear.Identity")


def judge(files: ModelFiles) -> Verdict:
    """What the server makes of the folder."""
    found = Findings()
    _backbone(files, found)
    _pooling(files, found)
    _length(files, found)
    _head(files, found)
    if files.layout.lower_case:
        found.differs.append("do_lower_case is not read: texts are not lower-cased")
    if not files.layout.include_prompt and files.prompts:
        found.differs.append("include_prompt is not read: the tokens of prompts are pooled")
    if files.prompts:
        found.notes.append(
            "a prompt is used only where a request names it (prompt_name), or with --default-prompt-name"
        )
    if files.layout.normalize is False:
        found.notes.append("gives vectors of length 1 unless a request says normalize: false")
    return found.verdict(READER)


def _backbone(files: ModelFiles, found: Findings) -> None:
    kind = str(files.config.get("model_type"))
    has_onnx = (files.folder / "onnx" / "model.onnx").is_file() or (files.folder / "model.onnx").is_file()
    if files.layout.backbone:
        found.refuses.append(f"config.json lies in {files.layout.backbone}, not in the folder itself")
    if not files.has("tokenizer.json"):
        found.refuses.append("no tokenizer.json")
    if not files.has("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin") and not has_onnx:
        found.refuses.append("no weights (model.safetensors or onnx/model.onnx)")
    if not isinstance(_first(files.config, "max_position_embeddings", "n_positions"), int):
        found.refuses.append("config.json: no max_position_embeddings")
    if not isinstance(files.config.get("architectures"), list):
        found.refuses.append("config.json: no architectures")
    if kind not in _ARCHITECTURES and not has_onnx:
        found.refuses.append(f"config.json: model type {kind} is none of its own, and there is no onnx/model.onnx")
    for key in _NEEDED.get(kind, ()):
        if files.config.get(key) is None:
            found.refuses.append(f"config.json: missing field {key}")
    if kind == "qwen3" and files.config.get("use_sliding_window"):
        found.refuses.append("config.json: use_sliding_window is not supported for qwen3")
    if kind == "qwen3" and files.looks_both_ways:
        found.differs.append("config.json: is_causal: false is not read: a token does not see those after it")


def _pooling(files: ModelFiles, found: Findings) -> None:
    path = files.folder / "1_Pooling" / "config.json"
    if not path.is_file():
        found.refuses.append("no 1_Pooling/config.json: start it with --pooling")
        return
    settings = files.pooling_settings
    for name in _FLAGS:
        if not isinstance(settings.get(f"pooling_mode_{name}"), bool):
            found.refuses.append(f"1_Pooling/config.json: missing field pooling_mode_{name}; start it with --pooling")
            return
    taken = next((mode for flag, mode in _POOLING_OF_FLAG.items() if settings.get(f"pooling_mode_{flag}")), None)
    if taken is None:
        found.refuses.append(f"pooling {' + '.join(files.pooling)} is not supported")
    elif (taken,) != files.pooling:
        found.differs.append(f"takes the pooling {taken} instead of {' + '.join(files.pooling)}")
    if taken == "last" and files.config.get("model_type") == "modernbert":
        found.refuses.append("pooling last is not supported for modernbert")


def _length(files: ModelFiles, found: Findings) -> None:
    settings = files.length_settings
    if settings is None:
        found.notes.append("no sentence_bert_config.json: takes texts as long as the backbone has positions")
        return
    length = settings.get("max_seq_length")
    if not isinstance(length, int) or isinstance(length, bool):
        found.refuses.append("sentence_bert_config.json: missing field max_seq_length")


def _head(files: ModelFiles, found: Findings) -> None:
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
            if settings.get("use_residual"):
                found.differs.append(f"{module['path']}: use_residual is not read")
            found.notes.append("applies the projection (Dense) with safetensors; with ONNX only what is in the graph")
            break


def _first(config: dict[str, Any], *keys: str) -> Any:
    return next((config[key] for key in keys if config.get(key) is not None), None)
