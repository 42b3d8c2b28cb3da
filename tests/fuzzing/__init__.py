"""Seeded mutators of what the readers are given, and the readers that must survive them."""
