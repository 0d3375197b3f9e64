"""The prompts that a recipe gives: apart from `placeholders`, because processes that read rows load no pydantic."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import ValidationInfo

from harness.prompts.placeholders import check_prompt
from harness.settings.section import is_of_run


def check_prompts(prompts: Mapping[str, str | None], info: ValidationInfo) -> None:
    """`check_prompt` of each, by key. The recipe that a run has written holds what its model stores, which stays.

    Raises:
        ValueError: one has a placeholder or an escape.
    """
    if not is_of_run(info):
        for key, prompt in prompts.items():
            check_prompt(prompt, key)
