"""Tools of the pipeline that are not stages, run as ``python -m stages TOOL``."""
