"""Value, slopes and gradients of InfoNCE in one pass over tiles of the similarity matrix."""
