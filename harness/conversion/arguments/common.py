"""Rows for the arguments of transformers' `TrainingArguments`, which FlagEmbedding, sentence-transformers and Tevatron
all take."""

from __future__ import annotations

from typing import Any

from harness.conversion.arguments.table import Row

_NO_LOADER = "data is read once into the cache and tokenised ahead; there is no loader to tune"
_REPORT = "metrics.jsonl and report.html are always written"


def _schedule(value: Any) -> Any:
    return {"linear": "linear", "cosine": "cosine", "constant": "constant", "constant_with_warmup": "constant"}.get(
        str(value), value
    )


_OF_A_TRAINER = {  # why: arguments of transformers' Trainer that have nothing to act on here
    "micro-batches are counted in tokens and found by themselves": (
        "auto_find_batch_size", "torch_empty_cache_steps", "average_tokens_across_devices", "train_sampling_strategy",
        "length_column_name",
    ),
    _NO_LOADER: (
        "dataloader_in_order", "dataloader_multiprocessing_context", "dataloader_persistent_workers",
        "dataloader_prefetch_factor", "data_seed", "ignore_data_skip", "accelerator_config", "label_names",
    ),
    "DeepSpeed shards and reduces (deepspeed: zero0 to zero3)": (
        "ddp_backend", "ddp_broadcast_buffers", "ddp_bucket_cap_mb", "ddp_static_graph", "fsdp", "fsdp_config",
        "parallelism_config",
    ),
    "evaluation computes metrics of embeddings": (
        "batch_eval_metrics", "bf16_full_eval", "fp16_full_eval", "eval_accumulation_steps", "eval_delay",
        "eval_do_concat_batches", "eval_on_start", "eval_use_gather_object", "include_for_metrics", "do_predict",
    ),
    "a run exports a folder: runs/NAME/model": (
        "hub_always_push", "hub_model_id", "hub_private_repo", "hub_revision", "hub_strategy", "hub_token",
    ),
    _REPORT: (
        "log_level", "log_level_replica", "log_on_each_node", "logging_first_step", "logging_nan_inf_filter", "project",
        "skip_memory_metrics", "trackio_bucket_id", "trackio_space_id", "trackio_static_space_id", "debug",
    ),
    "checkpoints are whole: weights, optimizer, negatives in use": (
        "enable_jit_checkpoint", "restore_callback_states_from_checkpoint", "save_on_each_node", "save_only_model",
    ),
    "not offered": (
        "activation_checkpointing", "activation_checkpointing_kwargs", "gradient_checkpointing_kwargs",
        "label_smoothing_factor", "liger_kernel_config", "use_liger_kernel", "lr_scheduler_kwargs",
        "neftune_noise_alpha", "optim_args", "optim_target_modules", "torch_compile_backend", "torch_compile_mode",
        "use_cache", "use_cpu",
        "full_determinism", "greater_is_better",
    ),
}  # fmt: skip

TRAINING_ARGUMENTS: tuple[Row, ...] = (
    Row("output_dir", "output"),
    Row("learning_rate", "training.learning_rate", value=float),
    Row("max_steps", "training.steps", harmless=(-1,), value=int),
    Row(
        "num_train_epochs",
        "training.epochs",
        "of one task: the largest file, or what training.epoch_of names; else the task that needs the most steps",
    ),
    Row(
        "per_device_train_batch_size",
        "task.quota",
        "times GPUs and accumulation: a step over all ranks",
    ),
    Row(
        "gradient_accumulation_steps",
        "task.quota",
        "multiplies the quota: accumulated examples are negatives of each other here",
    ),
    Row("warmup_ratio", "training.warmup_ratio", value=float),
    Row("warmup_steps", "training.warmup_ratio", "a share of the steps here, as a number below 1 is there"),
    Row("lr_scheduler_type", "training.schedule", value=_schedule),
    Row("weight_decay", "training.weight_decay", value=float),
    Row("adam_beta1", "training.adam_betas"),
    Row("adam_beta2", "training.adam_betas"),
    Row("adam_epsilon", "training.adam_epsilon", value=float),
    Row("max_grad_norm", "training.max_grad_norm", value=float),
    Row(
        "fp16",
        "training.precision",
        "autocast with a loss scale; bf16 where the GPU has it",
        harmless=(False,),
    ),
    Row("bf16", "training.precision", "autocast over fp32 weights, as in transformers", harmless=(False,)),
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
    Row(
        "overwrite_output_dir",
        "checkpoint.resume",
        "checkpoint.resume: never would start afresh; the recipe continues (auto)",
    ),
    Row("resume_from_checkpoint", none="the same command continues from the newest whole checkpoint"),
    Row("load_best_model_at_end", none="with evaluation.main_metric, model/ is its best step", harmless=(False,)),
    Row(
        "metric_for_best_model",
        "evaluation.main_metric",
        "DATASET/METRIC; by hand where the script does not say of which data",
    ),
    Row("run_name", "name"),
    Row("logging_steps", none="every step is in metrics.jsonl"),
    Row("logging_strategy", none="every step is in metrics.jsonl"),
    Row("logging_dir", none=_REPORT),
    Row("report_to", "report.trackers", "tensorboard, wandb, mlflow or none; others have no counterpart"),
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
    Row("push_to_hub", none="after the run: harness export RUN --out DIR --push-to-hub ORG/NAME", harmless=(False,)),
    Row("prediction_loss_only", none="evaluation computes metrics, no loss"),
    Row("disable_tqdm", none="a line per tenth of the run where there is no terminal"),
    Row("include_num_input_tokens_seen", none="tokens_per_second is in metrics.jsonl"),
    Row("ddp_timeout", "training.timeout", "minutes here", value=lambda value: float(value) / 60),
    *(Row(argument, none=why) for why, arguments in _OF_A_TRAINER.items() for argument in arguments),
)
