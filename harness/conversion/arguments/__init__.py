"""Every argument of each trainer, as a row: the recipe's key, or why it has none."""
