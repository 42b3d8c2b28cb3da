"""Numbers with a meaning of their own in masks and lists."""

VOID = 255  # neither foreground nor background: borders, ignored pixels
TRAIN, VAL = 0, 1  # the lists that an image may be in
