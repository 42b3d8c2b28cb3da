"""Section ``baseline`` of ``params.yaml``."""

from __future__ import annotations

from stages.params.optimisation import Optimisation


class Params(Optimisation):
    """Training of the Baseline. The last iterate is kept; nothing is selected on novel classes."""
