"""Compare `info_nce` with naive torch and other packages: time, memory, and agreement of the results."""
