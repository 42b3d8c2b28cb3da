"""Method B: the CAM prior, a two-branch network that represents an unseen class by maps of known ones."""
