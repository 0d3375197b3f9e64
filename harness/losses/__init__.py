"""Floor 2: the objective table (task kind → loss) and the balanced sum of the paper's eq. 3."""
