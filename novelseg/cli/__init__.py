"""The command ``novelseg``, one module per command."""
