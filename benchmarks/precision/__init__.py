"""Compare the losses and gradients of each precision with those of fp32."""
