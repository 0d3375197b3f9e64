"""What the runs start from: texts of installed packages, the data of every part, and a model with room to learn."""
