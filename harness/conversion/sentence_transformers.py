"""sentence-transformers' arguments and losses (6.0): what they are here. Source: its training_args.py and losses/."""

from __future__ import annotations

from dataclasses import dataclass

from harness.conversion.common import TRAINING_ARGUMENTS
from harness.conversion.table import Row

SENTENCE_TRANSFORMERS: tuple[Row, ...] = (
    Row("model_name_or_path", "model.name_or_path"),
    Row("train_data", "task.path"),
    Row("batch_sampler", none="texts that repeat in a step are encoded once, and known positives are no negatives"),
    Row(
        "multi_dataset_batch_sampler", "loss.balance", "proportional: share auto of data.batch; round_robin: alternate"
    ),
    Row("prompts", "task.prompts", "by role: those of the columns of queries and of documents"),
    Row("router_mapping", none="one encoder for both sides"),
    Row("learning_rate_mapping", none="one learning rate", harmless=({},)),
    Row("mini_batch_size", "training.micro_batch_tokens", "tokens, found by itself; every loss is cached here"),
    Row("mini_batch_num_tokens", "training.micro_batch_tokens", value=int),
    Row("scale", "loss.temperature", "1 / scale; of CoSENT and AnglE: loss.cosent_temperature"),
    Row("matryoshka_dims", "model.matryoshka_dims"),
    Row("matryoshka_weights", "model.matryoshka_weights"),
    Row("n_dims_per_step", none="every dim counts in every step", harmless=(-1,)),
    Row("gather_across_devices", none="always: negatives come from all ranks", harmless=(True,)),
    Row("max_seq_length", "model.max_length", value=int),
    *TRAINING_ARGUMENTS,
)


DEFAULTS = {"per_device_train_batch_size": 8}  # of arguments that are not given, where ours is another


@dataclass(frozen=True, slots=True)
class Loss:
    """A loss of sentence-transformers: the kind of task and the loss here, or why there is none."""

    kind: str = ""
    loss: str = ""
    negatives: str = ""  # of a task: keys that the loss implies, as YAML
    none: str = ""


LOSSES_THERE: dict[str, Loss] = {
    "MultipleNegativesRankingLoss": Loss("retrieval", "info_nce"),
    "CachedMultipleNegativesRankingLoss": Loss("retrieval", "info_nce"),
    "MultipleNegativesSymmetricRankingLoss": Loss("retrieval", "info_nce", "symmetric"),
    "CachedMultipleNegativesSymmetricRankingLoss": Loss("retrieval", "info_nce", "symmetric"),
    "GISTEmbedLoss": Loss("retrieval", "info_nce", "guide"),
    "CachedGISTEmbedLoss": Loss("retrieval", "info_nce", "guide"),
    "CoSENTLoss": Loss("sts", "cosent"),
    "AnglELoss": Loss("sts", "angle"),
    "MarginMSELoss": Loss("retrieval", "margin_mse", "per_query"),
    "DistillKLDivLoss": Loss("retrieval", "kl", "per_query"),
    "CosineSimilarityLoss": Loss(none="regression on the cosine; take cosent or angle, which rank the pairs"),
    "MatryoshkaLoss": Loss(none="no loss of its own: model.matryoshka_dims trains the dims with every loss"),
    "EmbedDistillLoss": Loss(none="here a loss of a retrieval task with teacher_vectors: teacher_cosine"),
    "GlobalOrthogonalRegularizationLoss": Loss(none="here a loss beside another: loss: [info_nce, spread_out]"),
    "BatchHardSoftMarginTripletLoss": Loss(none="take kind classification, whose loss is info_nce over labels"),
    "TripletLoss": Loss(none="a margin on one negative; take info_nce, which takes all of them"),
    "ContrastiveLoss": Loss(none="a margin on labelled pairs; take info_nce, with the label in the data"),
    "OnlineContrastiveLoss": Loss(none="a margin on labelled pairs; take info_nce, with the label in the data"),
    "BatchAllTripletLoss": Loss(none="take kind classification, whose loss is info_nce over labels"),
    "BatchHardTripletLoss": Loss(none="take kind classification, whose loss is info_nce over labels"),
    "BatchSemiHardTripletLoss": Loss(none="take kind classification, whose loss is info_nce over labels"),
    "SoftmaxLoss": Loss(none="a classifier head on pairs; take info_nce on entailments"),
    "MSELoss": Loss(none="here a loss of a retrieval task with teacher_vectors: teacher_cosine"),
    "MegaBatchMarginLoss": Loss(none="a margin on one negative; take info_nce"),
    "AdaptiveLayerLoss": Loss(none="no training of single layers"),
    "Matryoshka2dLoss": Loss(none="no training of single layers; model.matryoshka_dims trains the dims"),
    "ContrastiveTensionLoss": Loss(none="unsupervised; `recipes/pretrain` takes weakly supervised pairs"),
    "DenoisingAutoEncoderLoss": Loss(none="unsupervised; `recipes/pretrain` takes weakly supervised pairs"),
}
