"""Workflow of the pipeline: all code that depends on Snakemake or DVC."""
