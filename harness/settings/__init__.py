"""Settings: recipe files, the base class of recipe sections, DeepSpeed JSON files, and a command's environment."""
