"""Pipeline stages, one module each: they read and write files and do not depend on a workflow engine."""
