"""InfoNCE without a B x N matrix: computes value and gradients of the loss tile by tile."""
