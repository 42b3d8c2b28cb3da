"""Commands that are not stages of the pipeline, run as ``python -m stages TOOL``."""
