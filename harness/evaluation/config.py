"""The recipe's `evaluation` section."""

from __future__ import annotations

from pydantic import Field

from harness.settings.section import Section


class EvaluationConfig(Section):
    """Which data sets are scored: before training, every `every` steps and after the last one. 0: never."""

    every: int = Field(0, ge=0)
    data: tuple[str, ...] = ()
    main_metric: str | None = None  # DATASET/METRIC that picks the best checkpoint; default: mean of main metrics
    query_prompt: str = ""
    document_prompt: str = ""
