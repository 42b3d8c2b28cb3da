"""Parameter schemas, one module per section of ``params.yaml``; the engines import them quickly at start."""
