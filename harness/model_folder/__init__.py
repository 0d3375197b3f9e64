"""What lies in the folder of a model: where it is found, its configuration, pooling, prompts and lengths."""
