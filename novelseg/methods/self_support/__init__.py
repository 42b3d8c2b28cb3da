"""Self-support matching: prototypes of the query's own confident cells join those of the supports."""
