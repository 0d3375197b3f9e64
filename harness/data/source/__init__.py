"""Files to validated rows: the only readers of data files, for training, filtering and evaluation."""
