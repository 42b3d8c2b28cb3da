"""Commands beside the pipeline, run as ``python -m stages TOOL``."""
