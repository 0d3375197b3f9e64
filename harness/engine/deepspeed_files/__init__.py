"""DeepSpeed's own files of a checkpoint: written, and read without running what they may hold."""
