"""Pure functions on arrays: no files, no logging, no global state."""
