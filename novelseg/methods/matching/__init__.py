"""Prototype matching: the Baseline of method A, and the rough result that refinements start from."""
