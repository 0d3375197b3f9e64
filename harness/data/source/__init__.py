"""Stage 1: files to rows. The only readers of data files, for training and evaluation."""
