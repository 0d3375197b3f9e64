"""From token ids to embeddings: backbone, pooling, projection. It knows nothing of ranks and losses."""
