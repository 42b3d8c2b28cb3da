"""The one label with a meaning of its own."""

VOID = 255  # neither foreground nor background: borders, ignored pixels
