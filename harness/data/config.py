"""The recipe's `tasks` entries. Its `data` section: `data_config.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, model_validator

from harness.data.source.config import ColumnNames, Paths, check_columns, without_batch_negatives
from harness.data.teacher.config import TeacherVectorsConfig, check_teacher
from harness.loss_table import DISTILLATION_LOSSES, LOSSES, LossName, default_loss, losses_of_kind
from harness.prompts import Prompts
from harness.prompts.of_recipe import check_prompts
from harness.settings.plain_name import NAME_PATTERN
from harness.settings.section import Section, as_tuple
from harness.types import NegativesScope, Positives, TaskKind

MOST_EXAMPLES = 10_000_000  # of a step: their plan alone takes some GB


class NegativesConfig(Section):
    """The negatives of a query: how many own ones it has, and which other documents it is compared with.

    scope: `own`, the query's own negatives only; `task`, all documents of the query's task in the step; `step`, all
        documents of the step.
    draw: which of a query's candidates are in use. `ranked`: the first from `offset` on, until `mining.rule` replaces
        them. `random`: `per_query` of all from `offset` on, drawn anew every time the query is used (as FlagEmbedding
        draws from `neg`).
    margin: leave out negatives whose similarity exceeds (lowest similarity of a positive) + margin. Each Matryoshka
        level decides by its own similarities; no gradient flows through the decision. With a margin below 0, negatives
        that are nearly as similar as the positive are left out as well. This is NV-Retriever's TopK-MarginPos (arXiv
        2407.15831) applied in the batch. The margin is added, not multiplied, because a factor would have the opposite
        effect on a negative similarity.
    hardness: the query's own negatives have the weight e^(hardness * similarity) in the denominator of the loss. Each
        Matryoshka level uses its own similarity. The gradient treats the weight as a constant (EmbeddingGemma, arXiv
        2509.20354, uses 5).
    symmetric: the mean of two losses: from each query to the documents, and from each positive to those queries of the
        same task that have this positive as a negative (CLIP, arXiv 2103.00020). Queries of other tasks are not used.
    same_tower: also compare queries with queries or documents with documents (GTE, arXiv 2308.03281; Qwen3-Embedding,
        arXiv 2506.05176). `queries`: the other queries are negatives of a query. `documents`: the documents that a
        query is compared with are also negatives of its positive. The scope (`task` or `step`) says which queries and
        documents are used. Queries that mean the same are not negatives of each other (see
        `harness/data/plan/known_positives.py`).
    guide: leave out negatives that the recipe's `guide` model finds more similar to the query than the positive
        (GISTEmbed, arXiv 2402.16829). The guide compares queries with documents only. With a guide, `same_tower` must
        therefore be `queries` or unset.
    """

    scope: NegativesScope | None = None  # default: task; own for classification
    per_query: int = Field(0, ge=0, le=1000)  # how many own negatives of a query are in use
    bank: str | None = None  # a folder that `harness mine` wrote; default: the lists in the data
    corpus: str | None = None  # the new path of the bank's corpus, if the corpus was moved
    offset: int | None = Field(None, ge=0)  # first candidate to use; default: 10 with a bank, else 0
    draw: Literal["ranked", "random"] = "ranked"
    margin: float | None = None
    hardness: float | None = Field(None, gt=0)
    symmetric: bool = False
    same_tower: Literal["queries", "documents", "both"] | None = None
    guide: bool = False

    @property
    def query_tower(self) -> bool:
        """Whether queries are compared with queries: the other queries are added to the documents."""
        return self.same_tower in ("queries", "both")

    @property
    def document_tower(self) -> bool:
        """Whether documents are compared with documents: each positive with the negatives of its query."""
        return self.same_tower in ("documents", "both")


class PromptsConfig(Section):
    """The text put before every query or document. All texts of STS and classification tasks use `query`.

    query, document: the text. null: the prompt that the model's folder stores for this role (see docs/prompts.md).
        An empty text: none.
    """

    query: str | None = None
    document: str | None = None

    @model_validator(mode="after")
    def _check_places(self, info: ValidationInfo) -> PromptsConfig:
        check_prompts(dict(self), info)
        return self

    def to_prompts(self) -> Prompts:
        """What is put before which text, after `harness.config.with_folder_prompts` has filled in what is not given."""
        return Prompts(self.query or "", self.document or "")

    def filled(self, own: Prompts, *, pairs: bool) -> PromptsConfig:
        """A copy in which a key that is not given has the model's own prompt. pairs: the texts have two roles."""
        sentence_or_query = own.query if pairs else own.before("sentence")
        query = sentence_or_query if self.query is None else self.query
        document = (own.document if pairs else "") if self.document is None else self.document
        return self.model_copy(update={"query": query, "document": document})


class TaskConfig(Section):
    """One data source, how many of its examples a step holds, and which losses they train.

    path: a file, a folder, a pattern (`data/*.jsonl.gz`) or a hub name, or a list of these.
    columns: our name of a column to the name in the files: `{query: question, positive: answer}`; `ignore` lists
        columns to leave out.
    corpus: the documents (docid, text) that the rows name by id (Tevatron's positive_document_ids).
    quota: number of examples in a step, over all ranks.
    share: a fraction of `data.batch`, given in place of a quota. `auto`: the tasks with `auto` divide the rest of
        `data.batch` among themselves according to the size of their data (see `harness/data/plan/quotas.py`).
    loss: one of `harness.loss_table.LOSSES`, or several, which are added up.
    weight: the weight of this task in the mean over tasks. Retrieval and classification tasks share one mean, sts tasks
        another. If the task is the only one of its mean in a step, the weight has no effect.
    """

    name: str = Field(pattern=NAME_PATTERN)  # a folder's name below banks/
    kind: TaskKind  # what a row is: a query with documents, two texts with a score, or a text with a label
    path: Paths
    split: str = "train"  # the split of a hub data set, of a folder saved by `datasets`, or of train/test files
    config_name: str | None = None  # the configuration of a hub data set
    columns: ColumnNames = Field(default_factory=dict)
    corpus: str | None = None
    quota: int | None = Field(None, ge=1, le=MOST_EXAMPLES)
    share: Literal["auto"] | Annotated[float, Field(gt=0, le=1)] | None = None
    loss: Annotated[tuple[LossName, ...], BeforeValidator(as_tuple), Field(min_length=1)] | None = None
    weight: float = Field(1.0, gt=0)
    temperature: float | None = Field(None, gt=0)  # null: loss.temperature, for sts loss.cosent_temperature
    teacher_temperature: float | None = Field(None, gt=0)  # divides a ranker's scores, for distillation; default 1
    teacher_vectors: TeacherVectorsConfig | None = None  # for teacher_cosine and teacher_similarity
    positives: Positives = "one"  # for rows with several: use one, a different one in every epoch, or all at once
    negatives: NegativesConfig = NegativesConfig()
    prompts: PromptsConfig = PromptsConfig()
    query_max_length: int | None = Field(None, ge=4)  # tokens; null: the model's
    document_max_length: int | None = Field(None, ge=4)  # likewise

    @property
    def scope(self) -> NegativesScope:
        return self.negatives.scope or ("own" if self.kind == "classification" else "task")

    @property
    def losses(self) -> tuple[LossName, ...]:
        return self.loss or (default_loss(self.kind),)

    @property
    def distillation_losses(self) -> tuple[LossName, ...]:
        """The losses of the task that need a ranker's scores."""
        return tuple(name for name in self.losses if LOSSES[name].needs_ranker_scores)

    @model_validator(mode="after")
    def _check_quota(self) -> TaskConfig:
        if (self.quota is None) == (self.share is None):
            given = "neither quota nor share" if self.quota is None else "both quota and share"
            raise ValueError(
                f"tasks.{self.name}: got {given}, expected one of them: quota is a number of examples, share a part of "
                "data.batch"
            )
        return self

    @model_validator(mode="after")
    def _check_source(self) -> TaskConfig:
        check_columns(f"tasks.{self.name}.columns", self.kind, self.columns, self.corpus)
        marked = without_batch_negatives(self.path)
        if marked is not None and self.negatives.scope is None and self.kind == "retrieval":
            raise ValueError(
                f"tasks.{self.name}.negatives.scope: got none for {marked}, whose name tells FlagEmbedding to use no "
                "negatives of other queries, expected scope: own (as it does), task or step; set it"
            )
        return self

    @model_validator(mode="after")
    def _check_losses(self) -> TaskConfig:
        allowed = losses_of_kind(self.kind)
        if not set(self.losses) <= set(allowed) or len(set(self.losses)) < len(self.losses):
            raise ValueError(
                f"tasks.{self.name}.loss: got {', '.join(self.losses)} with kind {self.kind}, expected "
                f"{' or '.join(allowed)}, or a list of different ones of them"
            )
        if all(LOSSES[name].regulariser for name in self.losses):
            raise ValueError(
                f"tasks.{self.name}.loss: got {', '.join(self.losses)} alone, which teaches nothing by itself, "
                f"expected another loss beside it; set loss: [{default_loss(self.kind)}, {self.losses[0]}]"
            )
        check_teacher(self)
        self._check_own_negatives()
        if self.distillation_losses:
            self._check_distillation(self.distillation_losses[0])
        self._check_negatives_options()
        if self.teacher_temperature is not None and not self.distillation_losses:
            raise ValueError(
                f"tasks.{self.name}.teacher_temperature: got {self.teacher_temperature} with loss "
                f"{', '.join(self.losses)}, expected it with {' or '.join(DISTILLATION_LOSSES)} only; remove the key"
            )
        return self

    def _check_own_negatives(self) -> None:
        needing = [name for name in self.losses if LOSSES[name].needs_own_negatives]
        if needing and self.negatives.per_query == 0:
            raise ValueError(
                f"tasks.{self.name}.negatives.per_query: got 0, expected at least 1 with loss {needing[0]} (it "
                "compares a query's own documents); raise per_query"
            )

    def _check_distillation(self, loss: LossName) -> None:
        for key, value in (("bank", self.negatives.bank), ("corpus", self.negatives.corpus)):
            if value is not None:
                raise ValueError(
                    f"tasks.{self.name}.negatives.{key}: got {value} with loss {loss}, expected the negatives that the "
                    f"ranker has scored (neg_scores in the data); remove the {key} or set loss: info_nce"
                )

    def _check_negatives_options(self) -> None:
        """Refuse options of `negatives` that no loss of the task uses."""
        obeying = [name for name in losses_of_kind(self.kind) if LOSSES[name].uses_negatives_options]
        advice = f"or add {' or '.join(obeying)} to loss"
        which_negatives = {"scope", "per_query", "bank", "corpus", "offset", "draw"}  # these hold for every loss
        options = self.negatives.model_dump(exclude=which_negatives, exclude_defaults=True)
        if options and obeying and not set(self.losses) & set(obeying):
            raise ValueError(
                f"tasks.{self.name}.negatives: got {', '.join(options)} with loss {', '.join(self.losses)}, which "
                f"masks nothing, expected none of them; remove {', '.join(options)} {advice}"
            )

    @model_validator(mode="after")
    def _check_kind(self) -> TaskConfig:
        if self.kind == "sts" and self.negatives != NegativesConfig():
            raise ValueError(f"tasks.{self.name}.negatives: an sts task has no negatives; remove the key")
        if self.kind != "retrieval" and (
            self.negatives.bank or self.negatives.offset is not None or self.negatives.draw != "ranked"
        ):
            raise ValueError(
                f"tasks.{self.name}.negatives: got a bank, an offset or draw: random for a {self.kind} task, expected "
                "them for retrieval only; remove the keys"
            )
        if self.kind != "retrieval" and self.positives != "one":
            raise ValueError(
                f"tasks.{self.name}.positives: got {self.positives} with kind {self.kind}, expected it for retrieval "
                "only; remove the key"
            )
        if self.kind != "retrieval" and (self.prompts.document or self.document_max_length):
            raise ValueError(
                f"tasks.{self.name}: a {self.kind} task has one kind of text; "
                "use prompts.query and query_max_length instead of the document ones"
            )
        self._check_negatives()
        return self

    def _check_negatives(self) -> None:
        if self.scope == "own" and self.negatives.same_tower is not None:
            raise ValueError(
                f"tasks.{self.name}.negatives.same_tower: got {self.negatives.same_tower} with scope own (the query's "
                "own negatives are its only ones), expected it with scope task or step; set the scope or remove the key"
            )
        if self.negatives.corpus is not None and self.negatives.bank is None:
            raise ValueError(
                f"tasks.{self.name}.negatives.corpus: got {self.negatives.corpus} without a bank, expected it beside "
                "negatives.bank (it is the bank's corpus, moved); add the bank, or run harness mine --corpus"
            )
        if self.negatives.guide and self.negatives.document_tower:
            raise ValueError(
                f"tasks.{self.name}.negatives.same_tower: got {self.negatives.same_tower} with guide true (the guide "
                "compares documents with the query, not with its positive), expected queries; set it so or remove a key"
            )
        if self.negatives.hardness is not None and self.negatives.per_query == 0:
            raise ValueError(
                f"tasks.{self.name}.negatives.hardness: got {self.negatives.hardness} with per_query 0, expected own "
                "negatives to weigh; raise per_query or remove the key"
            )
        if self.scope == "own" and self.kind != "sts" and self.negatives.per_query == 0:
            raise ValueError(
                f"tasks.{self.name}.negatives.per_query: got 0, expected at least 1 with scope own "
                "(the query's own negatives are its only ones); raise per_query or set scope: task"
            )


def check_listed_negatives(tasks: Sequence[TaskConfig]) -> None:
    """Check that no task needs the negatives of its data, of a run that ranks others in their place.

    Raises:
        ValueError: a loss reads a ranker's scores, or a teacher's vectors, of these negatives.
    """
    for task in tasks:
        wanted = None
        if task.distillation_losses:
            wanted = f"loss {', '.join(task.losses)}", "negatives that a ranker has scored"
        elif task.teacher_vectors is not None and task.teacher_vectors.negative is not None:
            wanted = "teacher_vectors.negative", "the negatives of the data, whose vectors these are"
        if wanted is not None:
            raise ValueError(
                f"mining: got re-ranking with tasks.{task.name}.{wanted[0]}, expected {wanted[1]}; set "
                "mining.remine.every: 0, remine.at_start: false and mining.exhausted: keep or wrap"
            )
