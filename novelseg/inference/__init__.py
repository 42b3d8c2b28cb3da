"""Segmentation of the user's own pictures with a trained encoder, outside the pipeline."""
