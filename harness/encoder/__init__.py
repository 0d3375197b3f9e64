"""From token ids to embeddings: backbone, pooling, projection. It does not depend on ranks or losses."""
