"""From the embeddings of a step and the plan's row indices to the step's loss: one file per loss, one objective."""
