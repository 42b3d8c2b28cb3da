"""Seeded mutations of the files that the project reads; each is refused in a sentence, or read as valid content."""
