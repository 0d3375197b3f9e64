"""From texts to token ids, and the files that keep them beside the texts."""
