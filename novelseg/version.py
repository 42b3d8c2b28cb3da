"""Version of the package, in a file of its own: a release makes no artifact stale."""

__version__ = "0.2.0"
