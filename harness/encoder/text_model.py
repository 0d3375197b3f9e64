"""Which class of transformers gives the states of a text's tokens, and whether it gives them for every text alike."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING, AutoModel, PreTrainedConfig, PreTrainedModel

from harness.model_folder.find import words_of


def text_model_class(config: PreTrainedConfig) -> Any:
    """`AutoModel`, or the class of the encoder alone if the model has a decoder beside it.

    Raises:
        ValueError: an encoder-decoder whose encoder cannot be loaded alone, or a model that does not take texts with
            a mask of their padding.
    """
    encoder_class = _mapped(MODEL_FOR_TEXT_ENCODING_MAPPING, config)
    whole_class = _mapped(MODEL_MAPPING, config)
    if encoder_class is not None and encoder_class is not whole_class and _takes_texts(encoder_class):
        return encoder_class
    name = config.model_type
    if config.is_encoder_decoder:
        raise ValueError(
            f"model.name_or_path: got a model of type {name}, an encoder-decoder whose encoder transformers cannot "
            "load alone, expected an encoder (as BERT), a decoder (as Qwen3) or T5, MT5, UMT5"
        )
    if hasattr(config, "vision_config") or hasattr(config, "audio_config"):
        raise ValueError(
            f"model.name_or_path: got a model of type {name}, which also reads images or sound, expected a model of "
            "texts alone; save its text model with transformers first"
        )
    if whole_class is not None and not _takes_texts(whole_class):
        raise ValueError(
            f"model.name_or_path: got a model of type {name}, whose forward takes no input_ids with an attention_mask, "
            "expected a model of texts"
        )
    return AutoModel


@torch.no_grad()
def check_padding(backbone: PreTrainedModel, name: str) -> None:
    """Check with a few tokens that the states of a text do not depend on the padding behind it.

    Otherwise a text's embedding would depend on the texts beside it, and no two libraries would agree on it.

    Raises:
        ValueError: they do, as in Nyströmformer, or the model cannot be given tokens and their mask alone.
    """
    config = backbone.config.get_text_config()
    padding = config.pad_token_id if isinstance(getattr(config, "pad_token_id", None), int) else 0
    num_rows = getattr(config, "vocab_size", 9)  # CANINE hashes characters and has no table of them
    tokens = [i for i in range(1, min(9, num_rows)) if i != padding][:5]
    padded = tokens + [padding] * 3
    mask = [1] * len(tokens) + [0] * 3
    try:
        alone_LD, padded_LD = (
            backbone(input_ids=torch.tensor([ids]), attention_mask=torch.tensor([mask[: len(ids)]])).last_hidden_state[
                0
            ]
            for ids in (tokens, padded)
        )
    except (ValueError, TypeError, AttributeError, RuntimeError) as error:
        reason = words_of(error)
        raise ValueError(
            f"model.name_or_path: got {name} of type {config.model_type}, which gives no states for tokens and their "
            f"mask alone ({reason[:200]}), expected a model of texts"
        ) from error
    difference = (padded_LD[: len(tokens)] - alone_LD).abs().max() / alone_LD.abs().max().clamp(min=1e-12)
    rounding = torch.finfo(padded_LD.dtype).eps  # of weights that are still in half precision
    if not difference < max(1e-3, 8 * rounding):
        raise ValueError(
            f"model.name_or_path: got {name} of type {config.model_type}, whose states change by {difference:.0%} with "
            "the padding behind a text, expected none: an embedding must not depend on the texts beside it"
        )


def _mapped(mapping: Any, config: PreTrainedConfig) -> Any:
    """The class for this type of configuration; None if there is none, as for models with their own code."""
    found = mapping.get(type(config), None)
    return found[0] if isinstance(found, tuple) else found  # Funnel has two classes that take the same inputs


def _takes_texts(model_class: Any) -> bool:
    return {"input_ids", "attention_mask"} <= inspect.signature(model_class.forward).parameters.keys()
