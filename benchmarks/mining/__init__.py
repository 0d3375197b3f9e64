"""What dynamic mining costs a step."""
