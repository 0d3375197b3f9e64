"""Floor 4: from a training model to a sentence-transformers folder with a model card, reloaded and compared.

model/  config.json, model.safetensors, tokenizer   1_Pooling/   2_Dense/ (with a projection)   3_Normalize/   README.md
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense, Normalize, Pooling, Transformer
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from harness.data.table.tokenisation import Tokeniser
from harness.encoder.config import ModelConfig
from harness.encoder.encoder import Encoder

TOLERANCE = 1e-5
_ST_POOLING = {"cls": "cls", "mean": "mean", "last": "lasttoken"}


def longest_text_of(config: ModelConfig) -> int:
    """Tokens of the longest text the model was trained with."""
    return max(config.max_length, config.query_max_length or 0, config.document_max_length or 0)


def write_model(
    out: Path,
    encoder: Encoder,
    state: dict[str, Tensor],
    tokenizer: PreTrainedTokenizerBase,
    config: ModelConfig,
    *,
    prompts: dict[str, str],
    card: str,
) -> None:
    """Write a sentence-transformers folder. `state`: the encoder's weights, whole and float32."""
    aside = out.with_name(f".{out.name}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    backbone = aside / "backbone"
    _write_backbone(backbone, encoder, state, tokenizer)
    modules: list[nn.Module] = [_transformer(backbone, config)]
    modules.append(Pooling(encoder.backbone.config.hidden_size, pooling_mode=_ST_POOLING[config.pooling]))
    if encoder.projection is not None:
        modules.append(_dense(state))
    if config.normalize:
        modules.append(Normalize())
    named = {name: prompt for name, prompt in prompts.items() if prompt}
    model = SentenceTransformer(modules=modules, device="cpu", prompts=named or None)
    model.save_pretrained(str(aside / "model"), create_model_card=False)
    (aside / "model" / "README.md").write_text(card, encoding="utf-8")
    shutil.rmtree(out, ignore_errors=True)
    (aside / "model").rename(out)
    shutil.rmtree(aside)


def verify_model(out: Path, texts: Sequence[str], expected_BD: np.ndarray, config: ModelConfig) -> float:
    """Reload the folder with sentence-transformers and compare embeddings of `texts` (normalised if exported so).

    Returns the largest absolute difference.

    Raises:
        ValueError: it exceeds 1e-5.
    """
    model = SentenceTransformer(str(out), device="cpu")
    found = model.encode(list(texts), convert_to_numpy=True, show_progress_bar=False, prompt="")
    expected = expected_BD.astype(np.float64)
    if config.normalize:
        expected /= np.maximum(np.linalg.norm(expected, axis=1, keepdims=True), 1e-12)
    difference = float(np.abs(found - expected).max())
    if not difference <= TOLERANCE:
        raise ValueError(
            f"{out}: got embeddings that differ from the training model's by {difference:.1e}, expected at most "
            f"{TOLERANCE:.0e}; do not use this export"
        )
    return difference


def embed(encoder: Encoder, tokeniser: Tokeniser, texts: Sequence[str], max_length: int) -> np.ndarray:
    """Embeddings [B, D] of a few texts on the CPU in float32, without a prompt.

    Not by `search.TextEncoder`, which calls collectives: only rank 0 exports.
    """
    batch = tokeniser.pad(tokeniser.encode(texts, max_length))
    with torch.no_grad():
        return encoder.float().cpu().eval()(batch.input_ids_BL, batch.attention_mask_BL).float().numpy()


def _write_backbone(
    folder: Path, encoder: Encoder, state: dict[str, Tensor], tokenizer: PreTrainedTokenizerBase
) -> None:
    weights = {
        name.removeprefix("backbone."): value.contiguous()
        for name, value in state.items()
        if name.startswith("backbone.")
    }
    weights |= encoder.unused_backbone_state
    folder.mkdir(parents=True)
    encoder.backbone.save_pretrained(folder, state_dict=weights)
    tokenizer.save_pretrained(folder)


def _transformer(folder: Path, config: ModelConfig) -> Transformer:
    arguments: dict[str, Any] = {"trust_remote_code": config.trust_remote_code}
    return Transformer(
        str(folder), max_seq_length=longest_text_of(config), model_kwargs={**arguments, "dtype": torch.float32}
    )


def _dense(state: dict[str, Tensor]) -> Dense:
    weight = state["projection.weight"]
    dense = Dense(weight.shape[1], weight.shape[0], bias=True, activation_function=nn.Identity())
    dense.linear.load_state_dict({"weight": weight, "bias": state["projection.bias"]})
    return dense


def model_card(
    *,
    name: str,
    base_model: str,
    dim: int,
    matryoshka_dims: Sequence[int] | None,
    recipe_yaml: str,
    data: Sequence[tuple[str, str, int, str]],
    scores: Sequence[tuple[str, str, float | None, float]],
    facts: dict[str, Any],
) -> str:
    """README.md of the exported folder: recipe, data (task, path, rows, hash), scores (before, after) and dims."""
    lines = ["---", "library_name: sentence-transformers", "pipeline_tag: sentence-similarity"]
    lines += ["tags: [sentence-transformers, feature-extraction, sentence-similarity]", "---", "", f"# {name}", ""]
    lines += [f"Text embeddings of {dim} dimensions, trained from `{base_model}`.", ""]
    if matryoshka_dims:
        dims = ", ".join(map(str, matryoshka_dims))
        lines += [f"Matryoshka dimensions: {dims}. Cut a vector to one of these and normalise it again.", ""]
    lines += ["```python", "from sentence_transformers import SentenceTransformer", ""]
    lines += ['model = SentenceTransformer("PATH/TO/THIS/FOLDER")', 'vectors = model.encode(["a text", "another"])']
    lines += ["```", "", "## Scores", ""]
    if scores:
        lines += ["| data set | metric | before | after |", "| --- | --- | --- | --- |"]
        for dataset, metric, before, after in scores:
            start = "" if before is None else f"{before:.4f}"
            lines.append(f"| {dataset} | {metric} | {start} | {after:.4f} |")
    else:
        lines.append("No evaluation data was named in the recipe.")
    lines += ["", "## Data", "", "| task | path | rows | hash |", "| --- | --- | --- | --- |"]
    lines += [f"| {task} | {path} | {rows} | `{digest}` |" for task, path, rows, digest in data]
    lines += ["", "## Training", "", *[f"- {key}: {value}" for key, value in facts.items()]]
    lines += ["", "```yaml", recipe_yaml.rstrip(), "```", ""]
    return "\n".join(lines)
