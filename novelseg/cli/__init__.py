"""The command ``novelseg``: one small module per subcommand."""
