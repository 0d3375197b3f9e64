"""What a micro-batch costs, counted on tensors that have shapes but no memory."""
