"""What does not fit, and which knob to turn: one line each."""

from __future__ import annotations

from harness.prediction.predict import Prediction

_GIB = 2**30


def advice(prediction: Prediction, micro_batch_tokens: int) -> list[str]:
    """A line for the total, then one for each holding that a knob can shrink, largest first; empty if all fits."""
    held, free = prediction.moments[prediction.peak_moment], prediction.free_bytes
    lines = []
    if prediction.peak_bytes > free:
        lines.append(
            f"memory: {_gib(prediction.peak_bytes)} of {_gib(free)} GiB that {prediction.setup.device.name} has for "
            f"it, at the moment `{prediction.peak_moment}`; {prediction.setup.ranks} ranks will not run"
        )
        for name, num_bytes in sorted(held.items(), key=lambda item: -item[1]):
            knob = _knob(name, prediction, micro_batch_tokens)
            if knob and num_bytes > prediction.peak_bytes / 20:
                left = max(0, free - prediction.peak_bytes + num_bytes)
                lines.append(f"{name}: {_gib(num_bytes)} GiB of {_gib(left)} GiB that the rest leaves: {knob}")
    return lines


def _knob(name: str, prediction: Prediction, micro_batch_tokens: int) -> str:
    """The settings that shrink a holding; empty: none does."""
    zero, ranks = prediction.setup.zero, prediction.setup.ranks
    shard = f"set deepspeed: zero{zero.stage + 1}" if zero.stage < 3 else "take more ranks"
    offload = "" if zero.optimizer_on_host else f" or zero{max(2, zero.stage)}_offload"
    activations = f"lower training.micro_batch_tokens (now {micro_batch_tokens:,})"
    if prediction.graphs_kept:
        activations = f"set training.activation_memory: 0, or {activations}"
    elif not prediction.setup.training.precision.startswith("bf16"):
        activations += ", set training.precision: bf16 or model.gradient_checkpointing: true"
    scores = "lower the tasks' quotas"
    if prediction.gather == "table" and ranks > 1:
        scores += " or set loss.gather: ring"
    return {
        "activations": activations,
        "optimizer state": f"{shard}{offload}" if ranks > 1 or offload else "take more ranks",
        "gradients": f"{shard}{offload}" if ranks > 1 else f"take more ranks{offload}",
        "weights": "set deepspeed: zero3" if zero.stage < 3 else "take more ranks, or zero3_offload",
        "update": f"{shard}{offload}",
        "embedding table": scores,
        "loss": scores,
        "copies of gradients": "lower zero_optimization.reduce_bucket_size in the JSON that deepspeed names",
        "DeepSpeed's buffers": "lower zero_optimization.reduce_bucket_size in the JSON that deepspeed names",
        "gathered weights": "lower zero_optimization.stage3_prefetch_bucket_size in the JSON that deepspeed names",
    }.get(name, "")


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / _GIB:.1f}"
