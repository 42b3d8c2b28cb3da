"""A trained encoder on one's own pictures, without the pipeline."""
