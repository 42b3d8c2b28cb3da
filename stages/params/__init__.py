"""Parameter schemas, one module per section of ``params.yaml``; they import quickly, as the engines need at start."""
