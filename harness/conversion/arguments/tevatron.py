"""Tevatron's arguments (`tevatron.retriever.driver.train`, 2.0), one row each.

Source: tevatron/retriever/arguments.py.
"""

from __future__ import annotations

from harness.conversion.arguments.common import TRAINING_ARGUMENTS
from harness.conversion.arguments.table import Row

TEVATRON: tuple[Row, ...] = (
    Row("model_name_or_path", "model.name_or_path"),
    Row("config_name", none="the configuration of the model's folder is used"),
    Row("tokenizer_name", none="the tokenizer of the model's folder is used"),
    Row("cache_dir", none="set HF_HOME; read copies of data lie in data.cache"),
    Row("trust_remote_code", "model.trust_remote_code", value=bool),
    Row("dataset_name", "task.path"),
    Row("dataset_config", "task.config_name"),
    Row("dataset_path", "task.path"),
    Row("dataset_split", "task.split"),
    Row("corpus_name", "task.corpus"),
    Row("corpus_path", "task.corpus"),
    Row(
        "train_group_size",
        "task.negatives.per_query",
        "one less, drawn from each list anew in every epoch; a short list is not filled up",
    ),
    Row("query_prefix", "task.prompts.query"),
    Row("passage_prefix", "task.prompts.document"),
    Row("query_max_len", "model.query_max_length", value=int),
    Row("passage_max_len", "model.document_max_length", value=int),
    Row("pooling", "model.pooling", "eos and last are last; avg is mean"),
    Row("append_eos_token", "model.append_eos", value=bool),
    Row("padding_side", none="padding has no effect on embeddings here"),
    Row("normalize", "model.normalize", "losses use the cosine either way; this is for the exported model"),
    Row("temperature", "loss.temperature", "with --grad_cache Tevatron ignores it; here it always counts", value=float),
    Row("grad_cache", none="always: the loss sees the whole step, whatever the memory", harmless=(False,)),
    Row("gc_q_chunk_size", "training.micro_batch_tokens", "tokens, found by itself"),
    Row("gc_p_chunk_size", "training.micro_batch_tokens", "tokens, found by itself"),
    Row("attn_implementation", "model.attention"),
    Row("pad_to_multiple_of", none="texts are padded to the longest of their micro-batch"),
    Row("dataset_cache_dir", none="set HF_HOME; read copies of data lie in data.cache"),
    Row("corpus_config", none="a corpus is a file or folder"),
    Row("corpus_split", none="a corpus is a file or folder", harmless=("train",)),
    Row("train_yaml", none="every data set is a task of the recipe"),
    Row("assets_path", none="texts only"),
    Row("dataset_number_of_shards", none="ranks share the work by themselves", harmless=(1,)),
    Row("dataset_shard_index", none="ranks share the work by themselves", harmless=(0,)),
    Row("positive_passage_no_shuffle", "task.positives", "one is the first; each another one in every epoch"),
    Row("negative_passage_no_shuffle", "task.negatives.draw", "true is ranked, the first of the list; false random"),
    Row("encode_is_query", none="`harness evaluate` encodes by role"),
    Row("encode_output_path", none="`harness evaluate` and the exported model encode"),
    *(
        Row(f"encode_{kind}", none="texts only", harmless=(kind == "text", True))
        for kind in ("text", "image", "audio", "video")
    ),
    Row("encode_use_pre_chunked", none="one vector per text", harmless=(False,)),
    *(
        Row(f"passage_chunk_size{end}", none="one vector per text", harmless=(0, False))
        for end in ("", "_range", "_variable")
    ),
    Row("distil_temperature", "task.teacher_temperature", value=float),
    Row("lora", "model.lora", harmless=(False,)),
    Row("lora_name_or_path", "model.name_or_path", "the adapter's folder is the model to go on from; set it by hand"),
    Row("lora_r", "model.lora.rank"),
    Row("lora_alpha", "model.lora.alpha"),
    Row("lora_dropout", "model.lora.dropout"),
    Row("lora_target_modules", "model.lora.target_modules"),
    Row("dtype", "training.precision", "bfloat16 is bf16 (autocast over fp32 weights)"),
    Row("num_proc", none="the cores of the host share the reading"),
    *TRAINING_ARGUMENTS,
)

DEFAULTS = {  # of arguments that are not given, where ours is another
    "train_group_size": 8, "query_max_len": 32, "passage_max_len": 128, "temperature": 1.0, "pooling": "cls",
    "warmup_ratio": 0.1, "normalize": False, "per_device_train_batch_size": 8, "append_eos_token": False,
}  # fmt: skip
LORA_DEFAULTS = {
    "lora_r": 16, "lora_alpha": 64, "lora_dropout": 0.1,
    "lora_target_modules": "q_proj,k_proj,v_proj,o_proj,down_proj,up_proj,gate_proj",
}  # fmt: skip
