"""Reads the configuration of a model's backbone, and how many tokens the backbone has positions for."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from harness.model_folder.find import no_such_model, resolve_model
from harness.model_folder.layout import backbone_folder

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

# Model types that give the first token of a text the position pad_token_id + 1. No token uses the earlier positions.
_FIRST_POSITION_AFTER_PADDING = (
    "camembert", "data2vec-text", "esm", "ibert", "layoutlmv3", "lilt", "longformer", "luke", "markuplm", "mluke",
    "mpnet", "roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod",
)  # fmt: skip


def position_limit(name_or_path: str, trust_remote_code: bool = False) -> int | None:
    """The largest number of tokens that this model has positions for; None if it has no such limit.

    Raises:
        ValueError: no such model.
    """
    folder = backbone_folder(resolve_model(name_or_path, trust_remote_code))
    try:
        return positions_of_tokens(backbone_config(folder, trust_remote_code))
    except OSError as error:
        raise ValueError(no_such_model(name_or_path, error)) from error


def positions_of_tokens(config: object) -> int | None:
    """How many positions tokens can use in a backbone with this configuration; None without `max_position_embeddings`.

    Rotary and relative positions need no limit: such a configuration has no limit, or the length used in training.
    """
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return None
    if getattr(config, "model_type", None) in _FIRST_POSITION_AFTER_PADDING:
        return positions - 1 - (getattr(config, "pad_token_id", None) or 0)
    return positions


@lru_cache
def backbone_config(folder: str, trust_remote_code: bool) -> PreTrainedConfig:
    """The configuration of the model in a folder. It is read once per process and shared: change only copies of it.

    Raises:
        OSError: the folder holds no configuration.
        ValueError: transformers does not know the model type, or the model needs its own code, which is not trusted.
    """
    # Imported here: the import takes seconds and reads variables that settings/environment.py must set before.
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
