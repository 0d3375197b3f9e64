"""InfoNCE without a B x N matrix: value and gradients of the loss, computed tile by tile."""
