"""FlagEmbedding's arguments (`FlagEmbedding.finetune.embedder.{encoder_only,decoder_only}.base`, 1.4.0), one row each.

Source: FlagEmbedding/abc/finetune/embedder/AbsArguments.py and finetune/embedder/decoder_only/base/arguments.py.
"""

from __future__ import annotations

from harness.conversion.arguments.common import TRAINING_ARGUMENTS
from harness.conversion.arguments.table import Row

FLAG_EMBEDDING: tuple[Row, ...] = (
    Row("model_name_or_path", "model.name_or_path"),
    Row("tokenizer_name", none="the tokenizer of the model's folder is used"),
    Row("config_name", none="the configuration of the model's folder is used"),
    Row("cache_dir", none="set HF_HOME; read copies of data lie in data.cache"),
    Row("cache_path", none="read copies of data lie in data.cache"),
    Row("token", none="set HF_TOKEN"),
    Row("trust_remote_code", "model.trust_remote_code", value=bool),
    Row(
        "train_data",
        "task.path",
        "all files are one task, or one each with same_dataset_within_batch; their rows are read as they are",
    ),
    Row(
        "train_group_size",
        "task.negatives.per_query",
        "one less, drawn from each list anew in every epoch, as there (negatives.draw: random); a short list is not "
        "filled up",
    ),
    Row("query_max_len", "model.query_max_length", value=int),
    Row("passage_max_len", "model.document_max_length", value=int),
    Row("pad_to_multiple_of", none="texts are padded to the longest of their micro-batch"),
    Row(
        "max_example_num_per_dataset",
        none="cut the file; a task's quota says how much of a step it is",
        harmless=(100000000,),
    ),
    Row("query_instruction_for_retrieval", "task.prompts.query"),
    Row(
        "query_instruction_format",
        "task.prompts.query",
        "applied here: the prompt is written out, also that of rows if all of a file have the same",
    ),
    Row("passage_instruction_for_retrieval", "task.prompts.document"),
    Row("passage_instruction_format", "task.prompts.document", "applied here: the prompt is written out"),
    Row(
        "knowledge_distillation",
        "task.loss",
        "[info_nce, kl]; kl needs pos_scores and neg_scores in every row; a file without them has info_nce alone with "
        "same_dataset_within_batch",
        harmless=(False,),
    ),
    Row("kd_loss_type", "task.loss", "kl_div is kl; m3_kd_loss has no counterpart"),
    Row(
        "same_dataset_within_batch",
        "loss.balance",
        "true: a task per file and homogeneous, one of them a step, drawn by their rows; false: all files are one task",
    ),
    Row("small_threshold", none="small sets are not merged; give them a small quota", harmless=(0,)),
    Row("drop_threshold", none="no set is dropped", harmless=(0,)),
    Row("shuffle_ratio", none="texts are not shuffled", harmless=(0.0, 0)),
    Row("temperature", "loss.temperature", value=float),
    Row(
        "negatives_cross_device",
        "task.negatives.scope",
        "always over all ranks here; the scope says whose documents",
    ),
    Row("fix_position_embedding", none="all weights are trained", harmless=(False,)),
    Row("sentence_pooling_method", "model.pooling"),
    Row("normalize_embeddings", "model.normalize", "losses use the cosine either way; this is for the exported model"),
    Row("normlized", "model.normalize", "the name in FlagEmbedding 1.2; losses use the cosine either way"),
    Row("unified_finetuning", none="dense vectors only: BGE-M3's sparse and multi-vector parts are not trained"),
    Row("use_self_distill", none="it teaches BGE-M3's three kinds of vectors each other; there is one here"),
    Row("self_distill_start_step", none="see use_self_distill"),
    Row("fix_encoder", none="all weights are trained", harmless=(False,)),
    Row("colbert_dim", none="one vector per text", harmless=(-1,)),
    Row("sub_batch_size", "training.micro_batch_tokens", "found by itself; memory does not grow with the quota"),
    Row("use_mrl", "model.matryoshka_dims", harmless=(False,)),
    Row("mrl_dims", "model.matryoshka_dims"),
    Row("use_lora", "model.lora", harmless=(False,)),
    Row("lora_rank", "model.lora.rank"),
    Row("lora_alpha", "model.lora.alpha"),
    Row("lora_dropout", "model.lora.dropout"),
    Row("target_modules", "model.lora.target_modules"),
    Row("use_flash_attn", "model.attention", "flash_attention_2", harmless=(False,)),
    Row("save_merged_lora_model", none="always: model/ is merged, adapter/ is the adapter alone"),
    Row("only_merge_lora_model", none="a finished run started again makes model/ again"),
    Row("additional_special_tokens", none="add them to the tokenizer of the model's folder"),
    Row("peft_model_path", "model.name_or_path", "the adapter's folder is the model to go on from; set it by hand"),
    *TRAINING_ARGUMENTS,
)

DEFAULTS = {  # of arguments that are not given, where ours is another
    "train_group_size": 8, "query_max_len": 32, "passage_max_len": 128, "temperature": 0.02,
    "sentence_pooling_method": "cls", "negatives_cross_device": False, "per_device_train_batch_size": 8,
    "normalize_embeddings": True,
}  # fmt: skip
OF_DECODERS = {
    "lora_rank",
    "use_flash_attn",
    "peft_model_path",
    "save_merged_lora_model",
}  # arguments of decoders alone
LORA_DEFAULTS = {
    "use_lora": True, "lora_rank": 64, "lora_alpha": 16, "lora_dropout": 0.1,
    "target_modules": ["v_proj", "q_proj", "k_proj", "gate_proj", "down_proj", "o_proj", "up_proj"],
}  # fmt: skip
