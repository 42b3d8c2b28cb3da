"""From episode lists and predictions to pixel counts, scores and comparisons."""
