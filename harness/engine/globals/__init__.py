"""What DeepSpeed keeps in globals of the process, beyond the engine that it was made for."""
