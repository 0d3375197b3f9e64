"""Contrastive losses over unnormalised embeddings; knows nothing of any training harness.

Shape legend, used as suffixes everywhere in this package:
    B  queries              N  documents             D  embedding dimensions
    M  own negatives of a query (-1 padded)          X  excluded documents of a query (-1 padded)
    K  Matryoshka levels    P  rows of a panel       C  columns of a panel or a list of candidates
"""

from fused_contrastive.info_nce import info_nce
from fused_contrastive.problem import InfoNCEOutput, InfoNCEStats

__all__ = ["InfoNCEOutput", "InfoNCEStats", "info_nce"]
