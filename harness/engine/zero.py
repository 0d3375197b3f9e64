"""Drives a model through DeepSpeed ZeRO: forward, accumulate, step, save, load. No other module imports deepspeed.

DeepSpeed averages gradients over ranks and counts micro-batches itself. `ZeroEngine` has a simpler contract: all
gradients passed to `accumulate`, on any rank and in any number of calls, are SUMMED, and `step` applies the sum once.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from math import isfinite
from pathlib import Path
from typing import Any

import deepspeed
import torch
from deepspeed.runtime.base_optimizer import ZeROOptimizer
from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
from deepspeed.utils import safe_get_full_grad
from pydantic import ValidationError
from torch import Tensor, nn

from harness import comm
from harness.engine.average.weights import averaged_weights, refuse_on_disk
from harness.engine.config import TrainingConfig, problem_of_stage
from harness.engine.deepspeed_files.read_write import FOLDER, print_to_log, read_state, write_state
from harness.engine.deepspeed_files.whole_weights import whole_weights
from harness.engine.globals.put_away import put_away
from harness.engine.globals.slow_ops import skip_slow_compilation
from harness.engine.optimizer import build_optimizer, groups_of, offloads_optimizer, set_step
from harness.engine.precision import Autocast, LossScale
from harness.engine.resharding.divide import load_divided_anew
from harness.engine.step_cost import time_collectives
from harness.settings.deepspeed_json import refuse_without_gpu, zero_stage
from harness.settings.recipe_file import show
from harness.stopwatch import stopwatch
from harness.types import TokenBatch

_INPUTS_TO_PASS = "ds_grads_remaining"  # attribute of every module under ZeRO-3
_LOSS_SCALE = "loss_scale"  # key of the engine's own state in a checkpoint


class GradientNormError(ArithmeticError):
    """The norm of all gradients together is not finite, although each of them is. Raised on every rank."""


class ZeroEngine:
    """A model with its optimizer, sharded over the ranks as a file of ds_configs/ says."""

    def __init__(self, module: nn.Module, training: TrainingConfig, deepspeed_json: dict[str, Any]) -> None:
        comm.initialise()
        comm.before_shutdown(put_away)
        skip_slow_compilation()
        time_collectives()
        self.stage = zero_stage(deepspeed_json)
        self.precision, self._training = training.precision, training
        problem = problem_of_stage(training, self.stage)
        if problem is not None:
            raise ValueError(problem)
        refuse_on_disk(training.ema, deepspeed_json)
        self._autocast, self._loss_scale = Autocast(module, training.precision), LossScale(training.precision)
        settings = engine_json(deepspeed_json, training)
        self._rate_factors = [group.rate_factor for group in groups_of(module, training)]
        # What an adapter stands on is another model's, and stays there: a checkpoint holds the adapter alone.
        self._saves_frozen = getattr(module, "adapter", None) is None
        with print_to_log():  # the bf16 optimizer prints memory reports at every log level
            if self.stage == 3:
                divide_weights(module, settings)
            module.to(comm.device())  # of divided weights nothing is left to move
            self.engine, *_ = deepspeed.initialize(
                model=module,
                optimizer=build_optimizer(module, training, on_cpu=offloads_optimizer(deepspeed_json)),
                config=settings,
                dist_init_required=False,
            )
        if self.stage in (1, 2):
            # Before the norm, which tells the same, it would read all gradients once more: 45 ms of MiniLM in bf16.
            self.engine.optimizer.check_overflow = lambda **_: None
        self.device = comm.device()
        self._gradient_probe = torch.zeros((), device=self.device)  # of this call of `accumulate`
        self._step_probe = torch.zeros((), device=self.device)  # of all calls since the last update
        self._inputs_to_pass: list[tuple[dict[str, Any], int]] = []
        for parameter in self.engine.module.parameters():
            if parameter.requires_grad:
                parameter.register_hook(self._receive_gradient)

    @property
    def module(self) -> nn.Module:
        """The model. ZeRO-3 has sharded its weights."""
        return self.engine.module

    def train_mode(self, on: bool) -> None:
        """Switch dropout on or off."""
        self.engine.train(on)

    def forward(self, batch: TokenBatch) -> Tensor:
        """Embeddings [B, D] as float32. Every rank must call it equally often, because ZeRO-3 gathers weights in it."""
        embedding_BD = self.engine(*batch.on(self.device)).float()
        if self.stage == 3 and embedding_BD.requires_grad:
            counts = [(module.__dict__, module.__dict__.get(_INPUTS_TO_PASS)) for module in self.module.modules()]
            self._inputs_to_pass = [(attributes, count) for attributes, count in counts if count is not None]
        return embedding_BD

    def forward_without_autocast(self, batch: TokenBatch) -> Tensor:
        """Like `forward`, but computed in the dtype of the weights: what a reader of the exported model computes."""
        with self._autocast.off():
            return self.forward(batch)

    def set_boundary(self, is_last: bool) -> None:
        """Tell DeepSpeed whether the next call of `accumulate` is the last one of the step.

        Call it before every `accumulate`, and before the forward of the replay phase. DeepSpeed keeps the value until
        the next call, and ZeRO reads it during the backward.
        """
        self.engine.set_gradient_accumulation_boundary(is_last)

    def accumulate(self, embedding_BD: Tensor, gradient_BD: Tensor) -> Tensor:
        """Backpropagate `gradient_BD` through `embedding_BD`. Every rank must call it equally often.

        Other forwards and other backwards may lie between this and the forward that made `embedding_BD`.

        Returns a scalar that is finite if all parameter gradients of this call are finite.
        """
        self._end_last_backward()
        self._gradient_probe.zero_()
        surrogate = (embedding_BD * gradient_BD).sum() * self._loss_scale.before_backward(comm.world_size())
        self.engine.backward(surrogate, scale_wrt_gas=False)
        self._step_probe += self._gradient_probe
        return self._gradient_probe.clone()

    @stopwatch("step")
    def update_weights(self, step: int) -> dict[str, float]:
        """Clip the accumulated gradient, apply it with the learning rate of step `step` (from 1), and clear it.

        Returns `learning_rate` and `gradient_norm`, the norm before clipping. In fp16 also `loss_scale`; a step whose
        gradients overflowed leaves the weights as they are, gives an infinite norm and a UserWarning.

        Raises:
            GradientNormError: the gradients are finite, but their norm is not; the weights stay as they are.
            ValueError: fp16 gradients overflow even at a loss scale of 1.
        """
        rate = set_step(self.engine.optimizer.param_groups, self._rate_factors, self._training, step)
        metrics = {"learning_rate": rate}
        if self._loss_scale.is_used:
            metrics["loss_scale"] = self._loss_scale.value
            if self._left_out(step):
                return {**metrics, "gradient_norm": float("inf")}
        norm = self._plain_gradient_norm() if self.stage == 0 else None  # DeepSpeed reports none at stage 0
        if norm is not None and not isfinite(norm):
            self.engine.zero_grad()
            raise GradientNormError
        self.engine.step()
        if norm is None:
            norm = self.engine.get_global_grad_norm()
        if norm is None or not isfinite(norm):  # ZeRO leaves such a step out, without a word
            assert self.engine.optimizer.overflow
            raise GradientNormError
        return {**metrics, "gradient_norm": float(norm)}

    def full_gradients(self) -> dict[str, Tensor]:
        """The accumulated gradient of each parameter, whole and float32; call it before `step`. For tests only."""
        return {
            name: safe_get_full_grad(parameter).float().cpu().clone()
            for name, parameter in self.engine.module.named_parameters()
            if parameter.requires_grad
        }

    def stored_state(self) -> dict[str, Tensor]:
        """`module_state` of what a checkpoint stores: with an adapter, the trained weights only."""
        return whole_weights(self.module, trained_only=not self._saves_frozen)

    def module_state(self) -> dict[str, Tensor]:
        """All weights, unsharded, as float32 in CPU memory; empty on ranks other than 0. Every rank must call it.

        They are those that the optimizer updates: in bf16_weights, the forward's are rounded copies of them.
        """
        return whole_weights(self.module, trained_only=False)

    def averaged_weights(self) -> AbstractContextManager[None]:
        """Inside, the forward uses `training.ema`'s average of the weights, if any. Every rank must enter it."""
        return averaged_weights(self.engine.optimizer, self.stage)

    def save(self, folder: Path) -> None:
        """Write weights and optimizer state into `folder`. Every rank must call it."""
        write_state(self.engine, folder, {_LOSS_SCALE: self._loss_scale.state()}, with_frozen=self._saves_frozen)

    def load(self, folder: Path, saved_by: tuple[int, int] | None = None) -> None:
        """Restore what `save` wrote. Every rank must call it, before the first step.

        saved_by: (number of ranks, ZeRO stage) that wrote it; None: those of this engine.

        Raises:
            ValueError: `save` has not written into this folder, or it holds more than values.
        """
        if saved_by is not None and saved_by != (comm.world_size(), self.stage):
            groups = [list(group.weights) for group in groups_of(self.engine.module, self._training)]
            state = load_divided_anew(self.engine, self.stage, folder / FOLDER, saved_by[1], groups)
        else:
            state = read_state(self.engine, folder, with_frozen=self._saves_frozen)
        self._loss_scale.load_state(state[_LOSS_SCALE])

    def _end_last_backward(self) -> None:
        """Do what DeepSpeed leaves to the next forward, which does not come between the backwards of kept graphs.

        Otherwise stage 3 takes all of them for one, and replaces gradients instead of adding them. It also counts how
        many inputs of a module a backward still has to pass before it releases the module's weights.
        """
        if isinstance(self.engine.optimizer, ZeROOptimizer):
            self.engine.optimizer.clear_backward_seen_flag()
        for attributes, count in self._inputs_to_pass:
            attributes[_INPUTS_TO_PASS] = count

    def _receive_gradient(self, gradient: Tensor) -> Tensor | None:
        """Probe a weight's gradient of this micro-batch, and undo fp16's loss scale before anybody adds it up."""
        # sum · 0 is 0 if the sum is finite, else NaN. The host does not wait for the device here.
        self._gradient_probe += gradient.detach().sum(dtype=torch.float32).to(self._gradient_probe.device) * 0
        return self._loss_scale.after_backward(gradient, comm.world_size())

    def _left_out(self, step: int) -> bool:
        """In fp16: drop the step's gradients if one of them, on any rank, is not finite. Adapts the loss scale."""
        overflowed = bool(comm.all_reduce_max((~self._step_probe.isfinite()).to(torch.int32).reshape(1)))
        self._step_probe.zero_()
        self._loss_scale.update(overflowed, step)
        if not overflowed:
            return False
        if self.stage == 0:
            self.engine.zero_grad()
        else:  # ZeRO drops gradients whose norm is not finite, and leaves the optimizer as it is
            self.engine.step()
            assert self.engine.optimizer.overflow
        return True

    def _plain_gradient_norm(self) -> float:
        gradients = [p.grad for p in self.engine.module.parameters() if p.grad is not None]
        return float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))


def divide_weights(module: nn.Module, settings: dict[str, Any]) -> None:
    """Divide the weights among the ranks for ZeRO-3, one after the other, so that a rank never holds all of them.

    A weight that still lies in the model's file (`load_encoder(as_stored=True)`) is read here. All ranks get rank 0's
    values. deepspeed.initialize would do the same, but only after it has moved the whole model to the device.
    """
    deepspeed.init_distributed(dist_init_required=False)  # joins the group of comm
    first, *others = module.parameters()
    dtype = torch.bfloat16 if "bf16" in settings else torch.float32  # a zero.Init to ask for it would be one too many
    # One buffer for all weights: memory that is taken and given back for each would be left in pieces. Nor may
    # DeepSpeed's broadcast write into a mapped file, whose changed pages stay until all of the file is unmapped.
    buffer = torch.empty(max(p.numel() for p in (first, *others)), dtype=dtype, device=comm.device())
    for parameter in (first, *others):
        parameter.data = buffer[: parameter.numel()].view(parameter.shape).copy_(parameter.detach())
        if parameter is first:
            deepspeed.zero.Init(module=nn.ParameterList([parameter]), config_dict_or_path=settings)
        else:
            first.convert_to_zero_parameters(param_list=[parameter])  # type: ignore[attr-defined]


def check_deepspeed_json(deepspeed_json: dict[str, Any], name: str) -> dict[str, Any]:
    """The same JSON, after checking the values of `zero_optimization` as DeepSpeed will, before anything is loaded.

    Raises:
        ValueError: an unknown key or a value that DeepSpeed does not take; one line per mistake.
    """
    try:
        DeepSpeedZeroConfig(**deepspeed_json["zero_optimization"])
    except ValidationError as error:
        mistakes = error.errors(include_url=False)
    else:
        return refuse_without_gpu(deepspeed_json, name, has_gpu=torch.cuda.is_available())
    lines = [
        f"{name}: zero_optimization.{'.'.join(map(str, mistake['loc']))}: got {show(mistake['input'])}, expected a "
        f"value that DeepSpeed takes ({mistake['msg']}); correct the JSON"
        for mistake in mistakes
    ]
    raise ValueError("\n".join(lines))


def engine_json(deepspeed_json: dict[str, Any], training: TrainingConfig) -> dict[str, Any]:
    """The JSON of ds_configs/ with the settings that the recipe owns. It says that a step has one micro-batch;
    `ZeroEngine.set_boundary` marks the real last one."""
    merged = {
        **deepspeed_json,
        "train_batch_size": comm.world_size(),
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "gradient_clipping": training.max_grad_norm,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": None,
    }
    if training.precision == "bf16_weights":
        merged["bf16"] = {"enabled": True, "check_grad_overflow": True}  # of the norm, which it would apply otherwise
        # A sum of many micro-batches in half precision would lose small gradients.
        merged["data_types"] = {"grad_accum_dtype": "fp32"}
    return merged
