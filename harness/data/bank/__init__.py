"""Stage 3: ranked negatives of every query, and which of them are in use."""
