"""What a run will need, before anything is booked: memory, traffic and seconds of a step. Loads no weights."""
