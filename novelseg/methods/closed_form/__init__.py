"""Closed-form head: segmentation of one or several classes from frozen features, without any training."""
