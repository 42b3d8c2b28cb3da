"""Region hierarchies: contours, region graph, ultrametric contour map, learned weights, scores."""
