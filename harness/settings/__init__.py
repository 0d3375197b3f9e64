"""What the settings are made of: recipes as text, their sections, DeepSpeed JSON files."""
