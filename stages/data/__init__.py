"""Readers, folds, sampling of episodes, and the built-in scenes."""
