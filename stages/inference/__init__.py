"""A trained encoder on one's own pictures, without the pipeline."""

from stages.inference.segmenter import Segmenter

__all__ = ["Segmenter"]
