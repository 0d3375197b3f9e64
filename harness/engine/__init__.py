"""How a step is computed with DeepSpeed, its optimizer and its checkpoints. No other folder imports deepspeed."""
