"""`harness filter`: which (query, positive) pairs of a data set are worth training on.

Five stages follow each other: rules while reading (pairs.py, junk_rules.py), exact and near duplicates (duplicates.py),
the model's score (scoring.py), consistency (consistency.py); filter.py runs them. A pair is dropped by the first stage
that objects. A row is dropped when none of its positives is left.

Shapes of the filter, used in all its files:
    R  rows of the source, usable or not     P  (query, positive) pairs of these rows, in their order
    G  texts kept on disk                    E  pairs that no earlier stage has dropped
    Q  unique queries among them             C  unique documents, or those of the corpus
    H  hashes of a pair's signature          D  embedding dimensions
"""
