"""Floor 3: the only importer of deepspeed; the three phases of a step; checkpoints."""
