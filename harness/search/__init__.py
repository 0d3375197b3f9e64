"""From texts to vectors to the nearest documents over all ranks: one way, for mining, filtering and evaluation."""
