"""Artifact formats: one machine-readable spec per file kind, checked on write and on open."""
