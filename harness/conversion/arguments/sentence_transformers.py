"""sentence-transformers' arguments and losses (6.0): what they are here. Source: its training_args.py and losses/."""

from __future__ import annotations

from dataclasses import dataclass

from harness.conversion.arguments.common import TRAINING_ARGUMENTS
from harness.conversion.arguments.table import Row

SENTENCE_TRANSFORMERS: tuple[Row, ...] = (
    Row("model_name_or_path", "model.name_or_path"),
    Row("train_data", "task.path"),
    Row("batch_sampler", none="texts that repeat in a step are encoded once, and known positives are no negatives"),
    Row(
        "multi_dataset_batch_sampler",
        "loss.balance",
        "proportional: homogeneous, with share auto of data.batch, and sts tasks in every step; round_robin: alternate",
    ),
    Row("prompts", "task.prompts", "by role: of the first column query, of the second document"),
    Row("router_mapping", none="one encoder for both sides"),
    Row("learning_rate_mapping", none="one learning rate", harmless=({},)),
    Row("mini_batch_size", "training.micro_batch_tokens", "tokens, found by itself; every loss is cached here"),
    Row("mini_batch_num_tokens", "training.micro_batch_tokens", value=int),
    Row("scale", "loss.temperature", "1 / scale; of CoSENT and AnglE: loss.cosent_temperature"),
    Row("temperature", "task.temperature", harmless=(1.0,)),
    Row("matryoshka_dims", "model.matryoshka_dims"),
    Row("matryoshka_weights", "model.matryoshka_weights"),
    Row("n_dims_per_step", none="every dim counts in every step", harmless=(-1,)),
    Row("gather_across_devices", none="always: negatives come from all ranks", harmless=(True,)),
    Row("max_seq_length", "model.max_length", value=int),
    Row("pooling_mode", "model.pooling"),
    Row("model_prompts", "model.prompts", "here of training, too, where a task has no prompts of its own"),
    Row("default_prompt_name", "model.default_prompt_name"),
    Row("trust_remote_code", "model.trust_remote_code", value=bool),
    Row("truncate_dim", none="whole vectors are trained; model.matryoshka_dims trains prefixes, evaluate --dim cuts"),
    Row("similarity_fn_name", none="vectors are compared by cosine", harmless=("cosine",)),
    Row("revision", none="name the folder of a downloaded revision"),
    Row("model_kwargs", none="set model.attention and training.precision by hand"),
    *(
        Row(name, none="set them in the model's folder")
        for name in ("processor_kwargs", "tokenizer_kwargs", "config_kwargs")
    ),
    Row("backend", none="training is torch's", harmless=("torch",)),
    *(Row(name, none="of the environment: HF_HOME, HF_TOKEN") for name in ("cache_folder", "token", "use_auth_token")),
    *(Row(name, none="not of the experiment") for name in ("device", "local_files_only", "model_card_data")),
    *TRAINING_ARGUMENTS,
)


DEFAULTS = {"per_device_train_batch_size": 8}  # of arguments that are not given, where ours is another


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss of sentence-transformers: the kind of task and the loss here, or why there is none.

    note: what differs although there is one. near: of a loss without a counterpart, the kind that its rows fit.
    """

    kind: str = ""
    loss: str = ""
    negatives: str = ""  # of a task: keys that the loss implies, as YAML
    none: str = ""
    note: str = ""
    near: str = ""


_GUIDED = "default temperature 0.01, which is written out; queries are compared with documents only"
_DOT = "of cosine / temperature here, of the dot product there"

LOSSES_THERE: dict[str, Loss] = {
    "MultipleNegativesRankingLoss": Loss("retrieval", "info_nce"),
    "CachedMultipleNegativesRankingLoss": Loss("retrieval", "info_nce"),
    "MultipleNegativesSymmetricRankingLoss": Loss("retrieval", "info_nce", "symmetric"),
    "CachedMultipleNegativesSymmetricRankingLoss": Loss("retrieval", "info_nce", "symmetric"),
    "GISTEmbedLoss": Loss("retrieval", "info_nce", "guide", note=_GUIDED),
    "CachedGISTEmbedLoss": Loss("retrieval", "info_nce", "guide", note=_GUIDED),
    "CoSENTLoss": Loss("sts", "cosent"),
    "AnglELoss": Loss("sts", "angle"),
    "MarginMSELoss": Loss("retrieval", "margin_mse", "per_query", note=_DOT),
    "DistillKLDivLoss": Loss("retrieval", "kl", "per_query", note=_DOT),
    "CosineSimilarityLoss": Loss(
        none="regression on the cosine; take cosent or angle, which rank the pairs", near="sts"
    ),
    "MatryoshkaLoss": Loss(none="no loss of its own: model.matryoshka_dims trains the dims with every loss"),
    "EmbedDistillLoss": Loss(none="here a loss of a retrieval task with teacher_vectors: teacher_cosine"),
    "GlobalOrthogonalRegularizationLoss": Loss(none="here a loss beside another: loss: [info_nce, spread_out]"),
    "BatchHardSoftMarginTripletLoss": Loss(
        none="take kind classification, whose loss is info_nce over labels", near="classification"
    ),
    "TripletLoss": Loss(none="a margin on one negative; take info_nce, which takes all of them"),
    "ContrastiveLoss": Loss(none="a margin on labelled pairs; take info_nce, with the label in the data"),
    "OnlineContrastiveLoss": Loss(none="a margin on labelled pairs; take info_nce, with the label in the data"),
    "BatchAllTripletLoss": Loss(
        none="take kind classification, whose loss is info_nce over labels", near="classification"
    ),
    "BatchHardTripletLoss": Loss(
        none="take kind classification, whose loss is info_nce over labels", near="classification"
    ),
    "BatchSemiHardTripletLoss": Loss(
        none="take kind classification, whose loss is info_nce over labels", near="classification"
    ),
    "SoftmaxLoss": Loss(none="a classifier head on pairs; take info_nce on entailments"),
    "MSELoss": Loss(none="here a loss of a retrieval task with teacher_vectors: teacher_cosine"),
    "MegaBatchMarginLoss": Loss(none="a margin on one negative; take info_nce"),
    "AdaptiveLayerLoss": Loss(none="no training of single layers"),
    "Matryoshka2dLoss": Loss(none="no training of single layers; model.matryoshka_dims trains the dims"),
    "ContrastiveTensionLoss": Loss(none="unsupervised; `recipes/pretrain` takes weakly supervised pairs"),
    "DenoisingAutoEncoderLoss": Loss(none="unsupervised; `recipes/pretrain` takes weakly supervised pairs"),
}
