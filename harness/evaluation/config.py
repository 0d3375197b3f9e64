"""The recipe's `evaluation` section."""

from __future__ import annotations

from pydantic import Field

from harness.settings.section import Section


class EvaluationConfig(Section):
    """Which data sets are scored, and when: before training, every `every` steps, and after the last step."""

    every: int = Field(0, ge=0)  # 0: never
    data: tuple[str, ...] = ()
    main_metric: str | None = None  # DATASET/METRIC that selects the best checkpoint; default: mean of main metrics
    query_prompt: str = ""
    document_prompt: str = ""
