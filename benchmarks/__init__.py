"""Benchmarks of time and memory, as ratios to reference implementations in the same run, and pictures for the docs."""
