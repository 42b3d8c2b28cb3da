"""FSSDINO: several prototypes for class and background, refined by the Gram matrix of the query."""
