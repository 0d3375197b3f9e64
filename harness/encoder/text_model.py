"""Which class of transformers gives the states of a text's tokens, for the configuration of a backbone."""

from __future__ import annotations

import inspect
from typing import Any

from transformers import MODEL_FOR_TEXT_ENCODING_MAPPING, MODEL_MAPPING, AutoModel, PreTrainedConfig


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
    if whole_class is not None and not _takes_texts(whole_class):
        raise ValueError(
            f"model.name_or_path: got a model of type {name}, whose forward takes no input_ids with an attention_mask, "
            "expected a model of texts"
        )
    return AutoModel


def _mapped(mapping: Any, config: PreTrainedConfig) -> Any:
    """The class for this type of configuration; None if there is none, as for models with their own code."""
    return mapping.get(type(config), None)


def _takes_texts(model_class: Any) -> bool:
    return {"input_ids", "attention_mask"} <= inspect.signature(model_class.forward).parameters.keys()
