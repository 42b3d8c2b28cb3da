"""Tools of the pipeline that are not stages: ``python -m stages TOOL``."""
