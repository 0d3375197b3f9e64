"""Several hosts: which rank this process is, over which network ranks talk, who is missing, and who differs."""
