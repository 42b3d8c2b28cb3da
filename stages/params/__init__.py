"""Parameter schemas: one module per section of ``params.yaml``, light enough for the engines to read at start."""
