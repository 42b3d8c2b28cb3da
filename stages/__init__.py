"""Pipeline stages: one module each, from paths to paths; none knows a workflow engine."""
