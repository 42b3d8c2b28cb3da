"""Official data sets and weights: where they are, how they are downloaded, verified and unpacked."""
