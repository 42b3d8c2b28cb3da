"""One error for several faults."""

from __future__ import annotations

from novelseg.core.errors import InputError

MOST_FAULTS = 12  # listed in one message


def refusal(what: str, faults: list[str]) -> InputError:
    """Return one error that lists faults, one per line."""
    more = [f"… {len(faults)} in all"] if len(faults) > MOST_FAULTS else []
    return InputError("\n  ".join([what, *faults[:MOST_FAULTS], *more]))
