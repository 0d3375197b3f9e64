"""What a run leaves behind (metrics.jsonl, run.json, evaluation.json, tensorboard/) and what it shows."""
