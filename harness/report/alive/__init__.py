"""Whether the ranks of a run are alive: heartbeats, the time since the last step, memory that keeps growing."""
