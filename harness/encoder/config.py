"""The recipe's `model` section."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from harness.model_folder.pooling import PoolingMode
from harness.settings.section import Section


class ModelConfig(Section):
    """Which backbone, how token states become one vector, and how long a text may be (tokens).

    `harness/encoder/load.py` applies these settings.
    """

    name_or_path: str
    pooling: PoolingMode = "mean"
    projection_dim: int | None = Field(None, ge=1)
    matryoshka_dims: tuple[int, ...] | None = None
    matryoshka_weights: tuple[float, ...] | None = None
    max_length: int = Field(512, ge=4)
    query_max_length: int | None = Field(None, ge=4)
    document_max_length: int | None = Field(None, ge=4)
    normalize: bool = True
    gradient_checkpointing: bool = False
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    trust_remote_code: bool = False

    @property
    def longest_text(self) -> int:
        """Tokens of the longest text that the model is trained with, whatever its role."""
        return max(self.max_length, self.query_max_length or 0, self.document_max_length or 0)

    @model_validator(mode="after")
    def _check_matryoshka(self) -> ModelConfig:
        dims, weights = self.matryoshka_dims, self.matryoshka_weights
        if dims is not None and (not dims or list(dims) != sorted(set(dims)) or dims[0] < 1):
            raise ValueError(f"matryoshka_dims: got {list(dims)}, expected ascending positive numbers, each once")
        if weights is not None and (dims is None or len(weights) != len(dims)):
            raise ValueError(
                f"matryoshka_weights: got {len(weights)} weights, expected one per matryoshka_dims "
                f"({0 if dims is None else len(dims)})"
            )
        if weights is not None and min(weights) < 0:
            raise ValueError(f"matryoshka_weights: got {list(weights)}, expected numbers of at least 0")
        return self
