"""A run: its data, model, loss and engine built from a recipe, and the folder that it writes."""
