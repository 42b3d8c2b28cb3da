"""Evaluation: episode lists, pixel counts of predictions, scores and comparisons."""
