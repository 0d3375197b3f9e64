"""Two data sets in one batch, and texts that mean the same: groups and keys say which documents are not negatives.

Prints the negatives of each query. Run: `python kernels/examples/keys_and_groups.py`
"""

import torch
from fused_contrastive import Negatives, info_nce

# (text, group: its data set, key: equal for queries that mean the same, row of its positive)
QUERIES = [
    ("What is the capital of France?", 0, 10, 0),
    ("Which city is France's capital?", 0, 10, 1),
    ("Which ocean is the largest?", 0, 11, 2),
    ("How do I sort a list in Python?", 1, 12, 4),
]
# (text, group, key: equal for documents that mean the same)
DOCUMENTS = [
    ("Paris.", 0, 20),
    ("The capital of France is Paris.", 0, 21),
    ("The Pacific.", 0, 22),
    ("The Pacific Ocean.", 0, 22),
    ("Call sorted(values).", 1, 23),
    ("Call reversed(values).", 1, 24),
]


def main() -> None:
    torch.manual_seed(0)
    _, query_group, query_key, positive = zip(*QUERIES, strict=True)
    _, document_group, document_key = zip(*DOCUMENTS, strict=True)
    query_BD = torch.randn(len(QUERIES), 8)
    document_ND = torch.randn(len(DOCUMENTS), 8, requires_grad=True)
    negatives = Negatives(
        scope="group",
        query_group_B=torch.tensor(query_group),
        document_group_N=torch.tensor(document_group),
        query_key_B=torch.tensor(query_key),
        document_key_N=torch.tensor(document_key),
    )
    for row, (text, *_) in enumerate(QUERIES):
        # If only this query has a weight, exactly its positive and its negatives get a gradient.
        weight_B = torch.zeros(len(QUERIES))
        weight_B[row] = 1
        positive_B = torch.tensor(positive)
        loss, _ = info_nce(query_BD, document_ND, positive_B, temperature=0.5, weight_B=weight_B, negatives=negatives)
        (gradient_ND,) = torch.autograd.grad(loss, document_ND)
        rows = (gradient_ND != 0).any(1).nonzero()[:, 0].tolist()
        print(f"{text} negatives: {[DOCUMENTS[n][0] for n in rows if n != positive[row]]}")


if __name__ == "__main__":
    main()
