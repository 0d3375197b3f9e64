"""Floor 4: `harness filter`: which (query, positive) pairs of a data set are worth training on.

Numbered stages, each a file with a pure core: reading and rules, exact duplicates, near duplicates, the model's score,
consistency. A pair is dropped by the first stage that objects. A row goes when none of its positives is left.

Shapes of the filter, used in all its files:
    R  rows of the source, usable or not     P  (query, positive) pairs of these rows, in their order
    G  texts kept on disk                    E  pairs that a stage still has to judge
    Q  unique queries among them             C  unique documents, or those of the corpus
    H  hashes of a pair's signature          D  embedding dimensions
"""
