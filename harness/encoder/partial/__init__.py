"""Training a part of a model: adapters beside frozen weights (LoRA, DoRA), frozen layers, rates by depth."""
