"""What the columns of a row hold: ours, those of other trainers, labels, and names that are near ours."""
