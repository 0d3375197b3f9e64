"""What one operation costs at a large size, and what it may cost."""
