"""Segmentation of one's own pictures with a trained encoder, without the pipeline."""
