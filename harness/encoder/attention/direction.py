"""Writes `model.attention_mask` into a backbone's configuration, and reads it from there.

Two keys of config.json make a decoder bidirectional, so that whoever loads the exported folder needs no option:

- `use_bidirectional_attention: true`, of Gemma and Gemma 3 (transformers from 4.56 on; it halves the sliding window, so
  that a token reads as many tokens as before);
- `is_causal: false`, of every other model of transformers from 5.2 on, and in vLLM of Llama, Mistral, Phi 3, Qwen2 and
  Qwen3. An export of Llama, Mistral or Qwen3 has the other key as well, for text-embeddings-inference.
"""

from __future__ import annotations

from typing import Any

from transformers import PreTrainedConfig

from harness.encoder.config import ModelConfig
from harness.model_folder.configuration import KEY_OF_GEMMA, is_bidirectional, obeys_own_key
from harness.model_folder.layout import Layout


def with_attention_mask(settings: PreTrainedConfig, config: ModelConfig) -> PreTrainedConfig:
    """The configuration of a backbone that reads texts as `model.attention_mask` says; null: as it is.

    `soft` ends with bidirectional attention, and so does what is exported.
    """
    if config.attention_mask is None:
        return settings
    is_causal = config.attention_mask == "causal"
    if _is_gemma(settings):
        if is_bidirectional(settings) == is_causal:
            settings = type(settings).from_dict({**settings.to_dict(), KEY_OF_GEMMA: not is_causal})
    elif is_bidirectional(settings) == is_causal:
        text: Any = settings.get_text_config()
        text.is_causal = is_causal
        if hasattr(text, KEY_OF_GEMMA):  # that is_causal is beside in an export, for text-embeddings-inference
            setattr(text, KEY_OF_GEMMA, not is_causal)
    return settings


def _is_gemma(settings: PreTrainedConfig) -> bool:
    """Whether the model obeys `use_bidirectional_attention`; with `is_causal` it does not, and has both for others."""
    text: Any = settings.get_text_config()
    return text is settings and obeys_own_key(text) and isinstance(getattr(text, KEY_OF_GEMMA), bool | None)


def unread_key(settings: PreTrainedConfig) -> str | None:
    """One line if config.json says in a key that its class does not read that tokens read all tokens; else None."""
    text: Any = settings.get_text_config()
    if is_bidirectional(settings) or obeys_own_key(text) or not getattr(text, KEY_OF_GEMMA, False):
        return None
    return (
        f"config.json says {KEY_OF_GEMMA}: true, which transformers does not read for {text.model_type}: a token reads "
        "those before it only, as in sentence-transformers; set model.attention_mask: bidirectional if the model was "
        "trained so"
    )


def as_adapter_says(config: ModelConfig, layout: Layout) -> ModelConfig:
    """The settings with the attention that the folder's adapter was trained with, unless they name one."""
    if config.attention_mask is not None or layout.is_causal is None:
        return config
    return config.model_copy(update={"attention_mask": "causal" if layout.is_causal else "bidirectional"})


def shortest_window(settings: PreTrainedConfig) -> int | None:
    """Tokens that a token reads in the layers that do not read whole texts; None if all of them do."""
    text: Any = settings.get_text_config()
    kinds = set(getattr(text, "layer_types", None) or ["sliding_attention", "chunked_attention"])
    sizes = {"sliding_attention": "sliding_window", "chunked_attention": "attention_chunk_size"}
    found = [getattr(text, key, None) for kind, key in sizes.items() if kind in kinds]
    return min((size for size in found if isinstance(size, int)), default=None)


def reader_note(settings: PreTrainedConfig, *, of_adapter: bool = False) -> str | None:
    """One line for a model card: which readers of an exported folder know that it is bidirectional; None: it is not.

    of_adapter: the folder holds an adapter, whose readers take config.json of the model that it changes.
    """
    if not is_bidirectional(settings):
        return None
    if of_adapter:
        return (
            "bidirectional, which only this harness reads from an adapter's folder (sentence_bert_config.json); others "
            "take the attention of the base model's config.json without a word: serve the merged model instead"
        )
    if _is_gemma(settings):
        return (
            "bidirectional (config.json: use_bidirectional_attention), which transformers reads from 4.56 on; other "
            "readers may take it for causal, so compare vectors before serving"
        )
    return (
        "bidirectional (config.json: is_causal false), which transformers reads from 5.2 on, vLLM for Llama, Mistral, "
        "Phi 3, Qwen2 and Qwen3, and text-embeddings-inference from 1.9 on for Llama, Mistral, Qwen2 and Qwen3; older "
        "and other readers take it for causal without a word, so compare vectors before serving"
    )
