"""InfoNCE and CoSENT for embeddings that need no normalisation. The package does not depend on a training harness.

Shape letters, used as suffixes everywhere in this package:
    B  queries                                       N  documents of the whole table
    D  embedding dimensions                          K  Matryoshka levels
    P  positives of a query (-1 padded)              M  own negatives of a query (-1 padded)
    X  excluded documents of a query (ragged)        S  query rows: queries, then tower rows
    R  rows of a tile                                C  columns of a tile or of a shard of the documents
    E  entries of a list of pairs

Query rows are the rows of the similarity matrix: the queries and, with the document tower, also their positives, which
are then called tower rows.
"""

from fused_contrastive.cosent import cosent, cosent_of_similarities
from fused_contrastive.info_nce import info_nce
from fused_contrastive.options import DocumentShard, Implementation, Matryoshka, Negatives, PassedOn, Peers, Towers
from fused_contrastive.problem import InfoNCEOutput, InfoNCEStats
from fused_contrastive.ragged import RaggedLists

__all__ = [
    "DocumentShard",
    "Implementation",
    "InfoNCEOutput",
    "InfoNCEStats",
    "Matryoshka",
    "Negatives",
    "PassedOn",
    "Peers",
    "RaggedLists",
    "Towers",
    "cosent",
    "cosent_of_similarities",
    "info_nce",
]
