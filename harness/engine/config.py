"""The recipe's `training` and `checkpoint` sections."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from harness.settings.section import Section

MOST_EPOCHS = 1e6
MOST_STEPS = 10**12  # numbers of examples, which are larger, must fit into 64 bits
Beta = Annotated[float, Field(ge=0, lt=1)]
# fp32 | bf16, fp16: fp32 weights, half-precision matrix products (autocast) | bf16_weights: bf16 weights, fp32 copies
Precision = Literal["fp32", "bf16", "fp16", "bf16_weights"]


class TrainingConfig(Section):
    """The optimizer, its schedule, the floating-point precision and the token budget of a micro-batch."""

    steps: int | None = Field(None, ge=1, le=MOST_STEPS)  # updates of the weights; either steps or epochs
    epochs: float | None = Field(None, gt=0, le=MOST_EPOCHS)  # passes over the data of epoch_of, in place of steps
    epoch_of: str | None = None  # the task whose rows an epoch shows once; null: the task that needs the most steps
    learning_rate: float = Field(2.0e-5, gt=0)  # the highest, after the warm-up
    # How the rate goes after the warm-up: linear and cosine fall, so that 0 would come right after the last step.
    schedule: Literal["linear", "cosine", "constant"] = "linear"
    warmup_ratio: float = Field(0.05, ge=0, le=1)  # share of the steps in which the rate rises from 0
    weight_decay: float = Field(0.001, ge=0)  # of AdamW; not of biases and norms
    # Layer l of n learns at learning_rate · layer_decay^(n + 1 − l); embeddings are l = 0, head and last norm n + 1.
    layer_decay: float | None = Field(None, gt=0, le=1)
    adam_betas: tuple[Beta, Beta] = (0.9, 0.999)  # decay of AdamW's first and second moment
    adam_epsilon: float = Field(1e-8, gt=0)  # added to the root of the second moment
    max_grad_norm: float = Field(1.0, ge=0)  # a longer gradient is scaled to this norm; 0: never clip
    # Each element of the gradient is cut to [-x, x], after max_grad_norm. null: never.
    max_grad_value: float | None = Field(None, gt=0)
    # Decay of an exponential moving average of the weights, which is what is scored and exported. null: none.
    ema: float | None = Field(None, gt=0, lt=1)
    precision: Precision = (
        "fp32"  # numbers of matrix products and weights; docs/precision_and_memory.md has what each costs
    )
    # Padded tokens that a rank encodes at once; auto: 2,048 on a CPU, what fits on a GPU. Never changes the loss.
    micro_batch_tokens: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    # MiB of a rank for graphs that are kept from the embed phase to the replay phase, each of which saves a forward.
    # auto: a share of what the first step leaves free; 0: every micro-batch is encoded twice.
    activation_memory: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    compile: bool = False  # torch.compile of the backbone's layers; pays on some devices only: measure it
    # Minutes that a rank waits for another in one collective call before all end; an hour while a run starts, saves,
    # scores or re-ranks, unless the other rank cannot be reached.
    timeout: float = Field(10.0, gt=0)
    seed: int = Field(0, ge=0)  # of shuffling, drawing, dropout and new weights
    dropout: float | None = Field(None, ge=0, lt=1)  # of the whole model; null: the model's own

    @model_validator(mode="after")
    def _check_length(self) -> TrainingConfig:
        if (self.steps is None) == (self.epochs is None):
            got = "neither steps nor epochs" if self.steps is None else f"steps {self.steps} and epochs {self.epochs:g}"
            raise ValueError(
                f"training: got {got}, expected one of them; set {'one' if not self.steps else 'the other to null'}"
            )
        if self.epoch_of is not None and self.epochs is None:
            raise ValueError(
                f"training.epoch_of: got {self.epoch_of} without training.epochs; set that, or remove the key"
            )
        return self

    @model_serializer(mode="wrap")
    def _write_what_was_given(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Of steps and epochs the one that was given, so that it can be read again."""
        return write(self) | ({} if self.epochs is None else {"steps": None})

    @property
    def num_steps(self) -> int:
        """The number of steps; with epochs it is known once the data is read."""
        assert self.steps is not None
        return self.steps


def problem_of_stage(training: TrainingConfig, stage: int) -> str | None:
    """Why a recipe's settings cannot be trained with a ZeRO stage, in words; None if they can."""
    if training.compile and stage == 3:
        return (
            "training.compile: got true with ZeRO stage 3, which gathers and releases weights inside of every layer, "
            "expected stage 0, 1 or 2; set deepspeed: zero2 or training.compile: false"
        )
    if training.precision != "bf16_weights" or stage > 0:
        return None
    return (
        "training.precision: got bf16_weights with ZeRO stage 0, which keeps no fp32 copies of the weights, so that "
        "small updates are lost, expected stage 1 or higher; set deepspeed: zero1 or training.precision: bf16"
    )


class CheckpointConfig(Section):
    """Save every `every` steps and after the last one (0: never), keep the newest `keep` and the best one.

    resume: `auto` continues from the newest whole checkpoint, `never` starts afresh, a number goes back to the
        checkpoint of this step, from which on other settings of optimizer and losses may apply (see docs/runs.md).
    """

    every: int | None = Field(None, ge=0)  # steps; 0: never; null: every tenth of the run (recipe.yaml has the number)
    keep: int = Field(2, ge=1)  # how many of the newest stay
    resume: Literal["auto", "never"] | Annotated[int, Field(ge=1)] = "auto"
