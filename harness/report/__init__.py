"""Records a run (metrics.jsonl, run.json, evaluation.json, tensorboard/), prints its progress, writes report.html."""
