"""What a process of a command is to others: its exit status, its launcher, and the signals that ask it to stop."""
