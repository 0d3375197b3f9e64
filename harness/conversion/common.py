"""Rows for the arguments of transformers' `TrainingArguments`, which FlagEmbedding, sentence-transformers and Tevatron
all take."""

from __future__ import annotations

from typing import Any

from harness.conversion.table import Row

_NO_LOADER = "data is read once into the cache and tokenised ahead; there is no loader to tune"
_REPORT = "metrics.jsonl, TensorBoard and report.html are always written"


def _schedule(value: Any) -> Any:
    return {"linear": "linear", "cosine": "cosine", "constant": "constant", "constant_with_warmup": "constant"}.get(
        str(value), value
    )


TRAINING_ARGUMENTS: tuple[Row, ...] = (
    Row("output_dir", "output"),
    Row("learning_rate", "training.learning_rate", value=float),
    Row("max_steps", "training.steps", harmless=(-1,), value=int),
    Row(
        "num_train_epochs",
        "training.steps",
        "a run has steps: epochs x rows / examples a step, as far as rows are known",
    ),
    Row(
        "per_device_train_batch_size",
        "task.quota",
        "times the GPUs and accumulation: the examples of a step, over all ranks",
    ),
    Row(
        "gradient_accumulation_steps",
        "task.quota",
        "multiplies the quota: all accumulated examples see one another as negatives here",
    ),
    Row("warmup_ratio", "training.warmup_ratio", value=float),
    Row("warmup_steps", "training.warmup_ratio", "a share of the steps here"),
    Row("lr_scheduler_type", "training.schedule", value=_schedule),
    Row("weight_decay", "training.weight_decay", value=float),
    Row("adam_beta1", "training.adam_betas"),
    Row("adam_beta2", "training.adam_betas"),
    Row("adam_epsilon", "training.adam_epsilon", value=float),
    Row("max_grad_norm", "training.max_grad_norm", value=float),
    Row("fp16", "training.precision", "autocast with a loss scale; bf16 where the GPU has it"),
    Row("bf16", "training.precision", "autocast over fp32 weights, as in transformers"),
    Row("seed", "training.seed", "the order of the data is another one", value=int),
    Row("gradient_checkpointing", "model.gradient_checkpointing", value=bool),
    Row("torch_compile", "training.compile", value=bool),
    Row("deepspeed", "deepspeed", "the ZeRO stage of the file; batch, optimizer and precision belong to the recipe"),
    Row("save_steps", "checkpoint.every", value=int),
    Row("save_total_limit", "checkpoint.keep", "the best checkpoint is kept beside them", value=int),
    Row("save_strategy", "checkpoint.every", "by steps only", harmless=("steps",)),
    Row("eval_steps", "evaluation.every", value=int),
    Row("eval_strategy", "evaluation.every", "by steps only", harmless=("steps", "no")),
    Row("evaluation_strategy", "evaluation.every", "by steps only", harmless=("steps", "no")),
    Row("overwrite_output_dir", "checkpoint.resume", "true is `never`: starts afresh; else the same command continues"),
    Row("resume_from_checkpoint", none="the same command continues from the newest whole checkpoint"),
    Row("load_best_model_at_end", none="the best checkpoint is named checkpoints/best", harmless=(False,)),
    Row("metric_for_best_model", "evaluation.main_metric", "DATASET/METRIC; set it by hand"),
    Row("run_name", "name"),
    Row("logging_steps", none="every step is in metrics.jsonl"),
    Row("logging_strategy", none="every step is in metrics.jsonl"),
    Row("logging_dir", none=_REPORT),
    Row("report_to", none=_REPORT),
    Row("dataloader_drop_last", none="a step always has its full quota; an epoch's rest opens the next one"),
    Row("dataloader_num_workers", none=_NO_LOADER),
    Row("dataloader_pin_memory", none=_NO_LOADER),
    Row("ddp_find_unused_parameters", none="DeepSpeed drives the ranks, not torch's DDP", harmless=(False,)),
    Row("per_device_eval_batch_size", none="evaluation batches by tokens: training.micro_batch_tokens"),
    Row("do_train", none="a recipe is trained; `harness evaluate` only scores", harmless=(True,)),
    Row("do_eval", none="evaluation.data says what is scored", harmless=(True, False)),
    Row("local_rank", none="the launcher's", harmless=(-1, 0)),
    Row("remove_unused_columns", none="`columns: {ignore: [...]}` names columns to leave out", harmless=(False, True)),
    Row("tf32", none="fp32 products are fp32; set training.precision: bf16 for speed"),
    Row("optim", none="AdamW, fused", harmless=("adamw_torch", "adamw_torch_fused", "adamw_hf")),
    Row("group_by_length", none="micro-batches are made of texts of like length anyway"),
    Row("save_safetensors", none="always", harmless=(True,)),
    Row("push_to_hub", none="a run exports a folder: runs/NAME/model", harmless=(False,)),
    Row("prediction_loss_only", none="evaluation computes metrics, no loss"),
    Row("disable_tqdm", none="a line per tenth of the run where there is no terminal"),
    Row("include_num_input_tokens_seen", none="tokens_per_second is in metrics.jsonl"),
)
