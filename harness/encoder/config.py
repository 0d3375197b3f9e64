"""The recipe's `model` section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, ValidationInfo, model_validator

from harness.encoder.partial.config import FreezeSettings, LoraSettings
from harness.model_folder.pooling import POOLINGS
from harness.prompts.of_recipe import check_prompts
from harness.settings.section import Section, as_tuple


def _as_written(modes: tuple[str, ...] | None) -> str | list[str] | None:
    return None if modes is None else modes[0] if len(modes) == 1 else list(modes)


# One name, or a list of names whose vectors are put side by side.
PoolingModes = Annotated[tuple[str, ...] | None, BeforeValidator(as_tuple), PlainSerializer(_as_written)]


class ModelConfig(Section):
    """Which backbone, how token states become one vector, and how long a text may be (tokens).

    `harness/encoder/load.py` applies these settings. null, the default: as the model folder says, and for a plain
    Hugging Face folder the pooling of `default_pooling`, no projection and embeddings of length 1.
    prompts: texts by name (`query`, `document`, `STS` ...), as a sentence-transformers folder stores them; they replace
        those of the folder one by one. A task without prompts of its own gets them by role (see docs/prompts.md).
    default_prompt_name: the one that plain `encode` puts before a text. Default: the folder's; empty: none.
    attention_mask: which tokens a token of a decoder reads: those before it, all, or ever more of the later ones over
        the first `soft_mask_steps` steps (all steps of the run), as Conan-embedding-v2 does (docs/decoders.md).
    append_eos: end every text with the tokenizer's end token; auto: if the last token is pooled, the folder is no
        sentence-transformers model yet, and its tokenizer does not do it.
    """

    name_or_path: str  # a folder, a hub name, or `demo-minilm` (weights of the extra `demo`)
    # How token states become one vector: cls, max, mean, mean_sqrt_len_tokens, weightedmean or last, or a list of them.
    pooling: PoolingModes = None
    projection_dim: int | None = Field(None, ge=1)  # size of a Dense layer behind the pooling
    matryoshka_dims: tuple[int, ...] | None = (
        None  # sizes that an embedding may be cut to; every loss is summed over them
    )
    matryoshka_weights: tuple[float, ...] | None = None  # of the losses of these sizes; null: 1 each
    max_length: int = Field(512, ge=4)  # tokens of a text, the prompt included; longer texts are cut
    query_max_length: int | None = Field(None, ge=4)  # of queries and sentences; null: max_length
    document_max_length: int | None = Field(None, ge=4)  # null: max_length
    normalize: bool | None = None  # whether the exported model gives embeddings of length 1
    gradient_checkpointing: bool = False  # less memory for a graph, a forward more for each backward
    # The kernel of attention; auto: torch's sdpa where the model has it.
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2"] = "auto"
    attention_mask: Literal["causal", "bidirectional", "soft"] | None = None
    soft_mask_steps: int | None = Field(None, ge=1)  # with `soft`; null: all steps of the run
    append_eos: Literal["auto"] | bool = "auto"
    trust_remote_code: bool = False  # run the code that comes with the model
    prompts: dict[str, str] | None = None
    default_prompt_name: str | None = None
    lora: LoraSettings | None = None  # train adapters beside frozen weights; docs/parameter_efficient.md
    freeze: FreezeSettings = FreezeSettings()

    @property
    def longest_text(self) -> int:
        """Tokens of the longest text that the model is trained with, whatever its role."""
        return max(self.max_length, self.query_max_length or 0, self.document_max_length or 0)

    @model_validator(mode="after")
    def _check_pooling(self) -> ModelConfig:
        modes = self.pooling
        if modes is not None and (not modes or set(modes) - set(POOLINGS) or len(set(modes)) < len(modes)):
            *others, last = POOLINGS
            raise ValueError(
                f"pooling: got {_as_written(modes) or []}, expected {', '.join(others)} or {last}, or a list of these, "
                "each once; leave it out to keep the model's own"
            )
        return self

    @model_validator(mode="after")
    def _check_prompts(self, info: ValidationInfo) -> ModelConfig:
        check_prompts({f"prompts.{name}": prompt for name, prompt in (self.prompts or {}).items()}, info)
        return self

    @model_validator(mode="after")
    def _check_soft_mask(self) -> ModelConfig:
        if self.soft_mask_steps is not None and self.attention_mask != "soft":
            raise ValueError(
                f"soft_mask_steps: got {self.soft_mask_steps} with attention_mask {self.attention_mask or 'null'}, "
                "expected attention_mask: soft; set it, or leave soft_mask_steps out"
            )
        if self.attention_mask == "soft" and self.attention == "flash_attention_2":
            raise ValueError(
                "attention_mask: got soft with attention flash_attention_2, which takes no mask of numbers, expected "
                "attention: sdpa or eager"
            )
        return self

    @model_validator(mode="after")
    def _check_trained_part(self) -> ModelConfig:
        if self.lora is not None and self.freeze != FreezeSettings():
            raise ValueError(
                "freeze: got it beside lora, which freezes all weights of the backbone, expected one of them; leave "
                "freeze out"
            )
        return self

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


def check_soft_mask(model: ModelConfig, steps: int) -> None:
    """Raises ValueError if the soft mask of a run of `steps` steps would not be bidirectional at its end."""
    if (model.soft_mask_steps or 0) > steps:
        raise ValueError(
            f"model.soft_mask_steps: got {model.soft_mask_steps}, expected at most training.steps ({steps}): the "
            "exported model has the attention of the last one; lower it"
        )
