"""Train a projection with in-batch negatives: all documents of the batch except its positive are a query's negatives.

Each query also has two hard negatives. The loss is symmetric, and it trains the first 4, 8 and 16 columns of the
embeddings to work without the other columns (Matryoshka). Run: `python kernels/examples/in_batch.py`
"""

import torch
from fused_contrastive import Matryoshka, Negatives, Towers, info_nce

NUM_PAIRS, NUM_FEATURES, WIDTH, NUM_STEPS = 32, 12, 16, 30


def main() -> None:
    torch.manual_seed(0)
    # Random features in place of texts: a positive is close to its query, a hard negative is less close.
    query_BF = torch.randn(NUM_PAIRS, NUM_FEATURES)
    positive_BF = query_BF + 0.3 * torch.randn(NUM_PAIRS, NUM_FEATURES)
    hard_BMF = query_BF[:, None] + torch.randn(NUM_PAIRS, 2, NUM_FEATURES)
    document_NF = torch.cat([positive_BF, hard_BMF.flatten(0, 1)])

    positive_B = torch.arange(NUM_PAIRS)  # document i is the positive of query i
    own_BM = NUM_PAIRS + torch.arange(2 * NUM_PAIRS).view(NUM_PAIRS, 2)  # the hard negatives follow the positives
    projection = torch.nn.Linear(NUM_FEATURES, WIDTH, bias=False)
    optimizer = torch.optim.Adam(projection.parameters(), lr=0.01)
    for step in range(1, NUM_STEPS + 1):
        loss, stats = info_nce(
            projection(query_BF),
            projection(document_NF),
            positive_B,
            temperature=0.05,
            matryoshka=Matryoshka([4, 8, WIDTH], weights=[0.5, 0.5, 1.0]),
            negatives=Negatives(own_BM=own_BM, hardness=1.0, margin=0.1),
            towers=Towers(symmetric=True),
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step in (1, NUM_STEPS):
            accuracy = stats.correct_B.float().mean().item()
            print(f"step {step}: loss {loss.item():.3f}, {accuracy:.0%} of the queries rank their positive first")


if __name__ == "__main__":
    main()
