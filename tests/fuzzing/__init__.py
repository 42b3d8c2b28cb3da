"""Seeded mutations of inputs, and the readers that have to take or refuse them in one sentence."""
