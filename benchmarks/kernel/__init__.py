"""The loss beside naive torch and other packages: time, memory, agreement."""
