"""Provenance of artifacts: digests of files and code, and one record per job."""
