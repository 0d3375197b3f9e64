"""`harness filter`: keeps the (query, positive) pairs of a data set that are worth training on.

filter.py runs five stages: 1. rules against junk, applied while reading (pairs.py, junk_rules.py); 2. exact and 3. near
duplicates (duplicates.py); 4. the model's score (scoring.py); 5. consistency (consistency.py). The first stage that
rejects a pair drops it. A row is dropped when all its positives are dropped.

Shape letters in all files of this folder:
    R  rows of the source, usable or not     P  (query, positive) pairs of these rows, in order
    G  texts kept on disk                    E  pairs that no earlier stage has dropped
    Q  unique queries of the pairs E         C  unique documents of the pairs E, or of the corpus
    H  hashes of a pair's signature          D  embedding dimensions
"""
