"""Pipeline stages: one module each, pure from paths to paths. No workflow engine is imported here."""
