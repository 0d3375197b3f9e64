"""Compare loss curve, speed and memory with the trainers of other projects."""
