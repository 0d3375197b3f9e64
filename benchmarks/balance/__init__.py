"""Compare ways to deal texts to ranks by the padded tokens of the largest rank and of the mean rank."""
