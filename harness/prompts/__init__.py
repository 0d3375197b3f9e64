"""Which text stands before a text when it is tokenised. Only this package chooses it, by task, role and model.

- `roles.py`: `Prompts`, the prompts of one task or one data set, by role.
- `model_prompts.py`: `ModelPrompts`, the prompts of a model by name, as sentence-transformers folders store them, and
  which of them a data set gets.
- `run_prompts.py`: the prompts of a run's model, from those of its tasks and of the model that it starts from.
- `placeholders.py`: refuses a prompt with a place for the text, as templates of other tools have it.
- `known_families.py`: models that were trained with prompts but whose folders store none.

A row may have its own prompt (FlagEmbedding's `prompt`), which replaces the one of its task.
"""

from harness.prompts.model_prompts import ModelPrompts, PromptChoice
from harness.prompts.roles import NO_PROMPTS, Prompts

__all__ = ["NO_PROMPTS", "ModelPrompts", "PromptChoice", "Prompts"]
