"""Floor 4: what a run leaves (metrics.jsonl, run.json, evaluation.json, tensorboard/) and what it shows."""
