"""Experiments with the classifier of the CAM prior; `python -m benchmarks.camclassifier --help` lists them."""
