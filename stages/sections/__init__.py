"""Parameter schemas: one module per section of ``params.yaml``, light enough to be read by the engines at once."""
