"""A teacher's vectors of a task's texts: the recipe's `teacher_vectors`, and the arrays that it names."""
