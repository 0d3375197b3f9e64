"""The devices that runs are booked on, and what this machine has."""
