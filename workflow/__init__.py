"""Everything that knows a workflow engine."""
