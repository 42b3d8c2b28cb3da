"""FoRIS: prototypes of the foreground minus the hard background, gated, with clusters of the query."""
