"""A trained encoder on one's own pictures, without the pipeline: torch, numpy, pillow, safetensors, pydantic, tqdm."""

from stages.inference.segmenter import Segmenter

__all__ = ["Segmenter"]
