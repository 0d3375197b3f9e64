"""The recipe's sections `mining` and `guide`."""

from __future__ import annotations

import math
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticKnownError

from harness.data.config import PromptsConfig
from harness.mining.replacement_rule import ReplacementRule, rule_class, rule_names
from harness.prompts import Prompts
from harness.settings.section import Section

INTERVAL_WITH_LOOK_AHEAD = 100  # steps; the default is not every step, because a look-ahead encodes texts
MOST_CANDIDATES = 10_000  # per query: 16,384 queries are searched and stored together, which takes 2 GB with these
# Refused with a rule whose `default_numbers` lacks them.
NUMBERS_OF_RULES = ("ratio", "ceiling", "floor", "quantile", "uses_above")
# Accepted although unused with `rule: none`, so that `--set mining.rule=none` alone switches off most recipes' rule.
_ACCEPTED_WITHOUT_RULE = ("ratio", "ceiling")


class RemineConfig(Section):
    """Rank every query's candidates again during training, by the current weights (ANCE, arXiv 2007.00808, section 4).

    The search and its limits are those of `harness mine`, see `MineSettings`.
    """

    every: int = Field(0, ge=0)  # steps between two rankings; 0: no ranking at regular intervals
    # Rank before the first step, by the starting model, among the documents of the task's data: no bank is needed.
    at_start: bool = False
    candidates: int = Field(100, ge=1, le=MOST_CANDIDATES)  # per query
    relative: float | None = Field(None, gt=0, le=1)  # keep s < s(positive) - (1 - relative) * |s(positive)|
    margin: float | None = None  # keep s < s(positive) - margin
    # How the nearest are found in more than `index_above` documents. hnsw is not offered: two builds of it may differ.
    index: Literal["exact", "ivf"] = "exact"
    index_above: int = Field(1_000_000, ge=0)  # up to so many documents the search is exact
    # With `exhausted: remine`: a task is ranked again when this share of its queries has no further candidate.
    ended: float = Field(0.1, gt=0, le=1)


class GuidePromptsConfig(PromptsConfig):
    """The prompts of a guide. sentence: before the texts of classification tasks; default: `query`."""

    sentence: str | None = None

    def to_prompts(self) -> Prompts:
        return Prompts(self.query or "", self.document or "", self.sentence)


class GuideConfig(Section):
    """A frozen model that checks the negatives of the tasks with `negatives.guide` (GISTEmbed, arXiv 2402.16829).

    A document is excluded from the negatives of a query if guide(query, document) > guide(query, lowest positive) +
    margin. guide() is the cosine of the guide model's embeddings. The guide reads the raw texts and has its own
    tokenizer and prompts (by default those of its folder; a row's own prompt is for the trained model only). If some
    positives may be wrong, `positives: one` excludes fewer negatives than `positives: all`.
    """

    name_or_path: str  # the guide's folder or hub name
    margin: float = 0.0  # above 0 excludes fewer negatives, below 0 more
    max_length: int | None = Field(None, ge=4)  # tokens; default: the model's own
    prompts: GuidePromptsConfig = GuidePromptsConfig()
    trust_remote_code: bool = False  # run the code that comes with the guide


class MiningConfig(Section):
    """When the negatives of a query count as easy and are replaced by its next ranked candidates.

    S is the latest similarity of a query and a negative in use. S0 is their first similarity since the negative came
    into use.
    rule: `none` never replaces a negative. The other rules are the files of harness/mining/rules/. Each file says which
        of the numbers from ratio to uses_above the rule uses, and the defaults of these numbers and of interval.
    floor: easy if S0 lies below. `auto` takes it from the run's first similarities, for each task (see rules/v2.py).
    check: `seen` takes S from the loss of the steps since the last judgement, at no cost. `upcoming` encodes, every
        `interval` steps (default 100), the queries that the plan uses next and their negatives, with dropout off, up to
        `budget` texts. S0 is then the first similarity computed in this way.
    successor: `rank` takes a query's next candidates in the order of their ranks, whatever their scores. `score` takes
        one only if its score is above S of the easy negative that it replaces, while the scores are at most
        `fresh_steps` steps old; then `rank` again. It needs scores by the run's own weights.
    """

    rule: str = "none"
    ratio: float | None = Field(None, ge=1)  # easy if S fell below S0 / ratio; default: the rule's
    ceiling: float | None = Field(None, gt=0)  # never easy from this S on; default: the rule's
    floor: float | Literal["auto"] | None = None  # easy if S0 lies below; default: the rule's
    # Easy if the smoothed quantile is at most this; default: the rule's.
    quantile: float | None = Field(None, ge=0, lt=1)
    uses_above: int | None = Field(None, ge=0)  # uses in a row above the positive; 0: never too hard; default: rule's
    interval: int | None = Field(None, ge=1)  # steps between two judgements; default: the rule's
    delay: int = Field(1, ge=1)  # a decision after step t takes effect at step t + 1 + delay: steps are planned ahead
    check: Literal["seen", "upcoming"] = "seen"
    budget: int = Field(4096, ge=2)  # with `upcoming`: texts encoded per look-ahead, over all tasks and ranks
    # If a query has no further candidate: keep its negatives, start its list again, or rank all candidates again.
    exhausted: Literal["keep", "wrap", "remine"] = "keep"
    successor: Literal["rank", "score"] = "rank"
    fresh_steps: int = Field(100, ge=1)  # with `successor: score`
    start: Literal["first_use", "ranking"] = "first_use"  # S0 is the first S, or the score that ranked the candidate
    remine: RemineConfig = RemineConfig()

    @field_validator("rule", mode="before")
    @classmethod
    def _check_rule(cls, rule: Any) -> Any:
        names = ["none", *rule_names()]
        if rule not in names:
            *others, last = map(repr, names)
            raise PydanticKnownError("literal_error", {"expected": f"{', '.join(others)} or {last}"})
        return rule

    @model_validator(mode="after")
    def _check_numbers(self) -> MiningConfig:
        accepted = _ACCEPTED_WITHOUT_RULE if self.rule == "none" else rule_class(self.rule).default_numbers
        for number in NUMBERS_OF_RULES:
            value = getattr(self, number)
            if value is not None and number not in accepted:
                rules = [name for name in rule_names() if number in rule_class(name).default_numbers]
                raise ValueError(
                    f"mining.{number}: got {value} with rule {self.rule}, expected it with {' or '.join(rules)} only; "
                    "remove it"
                )
        return self

    @property
    def ranks_anew(self) -> bool:
        """Whether a run ranks candidates itself, at its start or later."""
        return self.remine.at_start or bool(self.remine.every) or self.exhausted == "remine"

    @model_validator(mode="after")
    def _check_rule_has_what_it_needs(self) -> MiningConfig:
        if self.rule == "none":
            return self
        rule = rule_class(self.rule)
        if rule.compares and self.check == "upcoming":
            raise ValueError(
                f"mining.check: got upcoming with rule {self.rule}, which compares negatives with the other documents "
                "of their step, expected seen; set mining.check: seen"
            )
        if self.successor == "score" and rule.replaces_windows:
            others = [name for name in rule_names() if not rule_class(name).replaces_windows]
            raise ValueError(
                f"mining.successor: got score with rule {self.rule}, which replaces all negatives of a query in order, "
                f"expected rank; set mining.successor: rank, or mining.rule: {' or '.join(others)}"
            )
        if self.successor == "score" and self.exhausted == "wrap":
            raise ValueError(
                "mining.successor: got score with exhausted wrap, which takes candidates again that were trained on "
                "since they were scored, expected rank; set mining.successor: rank, or mining.exhausted: keep or remine"
            )
        return self


def build_rule(config: MiningConfig) -> ReplacementRule | None:
    """A new object of the recipe's rule, with the recipe's numbers or the rule's defaults; None for the rule `none`."""
    if config.rule == "none":
        return None
    rule = rule_class(config.rule)
    given = {name: getattr(config, name) for name in rule.default_numbers}
    recipe_numbers = {name: math.nan if value == "auto" else value for name, value in given.items()}
    numbers = {name: rule.default_numbers[name] if value is None else value for name, value in recipe_numbers.items()}
    default = INTERVAL_WITH_LOOK_AHEAD if config.check == "upcoming" else rule.default_interval
    return rule(config.rule, numbers, config.interval or default)
