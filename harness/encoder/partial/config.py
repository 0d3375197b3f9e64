"""The recipe's `model.lora` and `model.freeze`: which part of the model is trained."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from harness.settings.section import Section, as_tuple


def _names(value: object) -> object:
    return value if isinstance(value, str) and value in ("auto", "all-linear") else as_tuple(value)


class LoraSettings(Section):
    """Low-rank adapters beside the frozen weights of linear layers (LoRA, Hu et al. 2021, arXiv 2106.09685).

    output = W x + alpha / rank · B A dropout(x), with A [rank, in] random and B [out, rank] zero at the start. Only A
    and B are trained, and the head, if there is one.

    rank: numbers of A per input, and of B per output. alpha: the scale's numerator; null is 2 · rank.
    dropout: of the adapter's input.
    target_modules: `auto`: all linear layers of attention and feed-forward in known families; `all-linear`: every
        linear layer of the backbone; or the ends of names, as `query` or `attention.output.dense`.
    dora: the length of every row of the weight is trained, too, apart from its direction (DoRA, Liu et al. 2024, arXiv
        2402.09353).
    rank_stabilised: scale by alpha / √rank instead (rsLoRA, Kalajdzievski 2023, arXiv 2312.03732).
    """

    rank: int = Field(16, ge=1)
    alpha: float | None = Field(None, gt=0)
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: Annotated[Literal["auto", "all-linear"] | tuple[str, ...], BeforeValidator(_names)] = "auto"
    dora: bool = False
    rank_stabilised: bool = False

    @model_validator(mode="after")
    def _check_targets(self) -> LoraSettings:
        if not self.target_modules or not all(self.target_modules):
            raise ValueError(
                "target_modules: got an empty name, expected auto, all-linear, or the ends of names of linear layers"
            )
        return self


class FreezeSettings(Section):
    """Weights that stay as they are.

    embeddings: the tables and all else that stands before the first layer. layers: the first so many layers.
    """

    embeddings: bool = False
    layers: int = Field(0, ge=0)
