"""A cross-encoder scores the candidates of a search: their order, likely positives, a ranker's scores to distil."""
