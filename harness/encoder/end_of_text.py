"""Whether the recipe's `model` section adds the end token to every text."""

from __future__ import annotations

from harness.encoder.config import ModelConfig
from harness.model_folder.configuration import backbone_config, default_pooling
from harness.model_folder.end_of_text import AppendEos, resolved
from harness.model_folder.find import no_such_model, resolve_model
from harness.model_folder.layout import backbone_folder, read_layout


def end_of_texts(config: ModelConfig) -> AppendEos:
    """What `Tokeniser` is told. `auto` adds it if the last token is pooled and the folder was never an embedding model.

    A sentence-transformers folder says how its texts ended when it was trained, so its tokenizer is left as it is; so
    is that of a folder which a command reads (`config_of_folder`), whose vectors are to be those of other readers.

    Raises:
        ValueError: no such model.
    """
    folder = resolve_model(config.name_or_path, config.trust_remote_code)
    append = resolved(config.append_eos, read_layout(folder))
    if append != "auto":
        return append
    pooling = config.pooling
    if pooling is None:
        try:
            settings = backbone_config(backbone_folder(folder), config.trust_remote_code)
        except OSError as error:
            raise ValueError(no_such_model(config.name_or_path, error)) from error
        pooling = default_pooling(settings, config.attention_mask)
    return "auto" if "last" in pooling else False
