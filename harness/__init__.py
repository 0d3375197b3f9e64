"""A DeepSpeed-scale training harness for text embeddings (Conan-embedding, arXiv 2408.15710)."""

__version__ = "0.1.0"
