"""Backbones: the contract, the networks that implement it, their weight files, and feature extraction."""
