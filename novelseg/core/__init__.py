"""Foundations of the library: errors, files, labels, random keys, progress, devices, threads."""
