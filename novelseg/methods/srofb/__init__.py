"""SROFB (method A): an online classifier trained on the supports and refined with the query."""
