"""Backbones: the contract, the networks that fulfil it, their weight files, and features of images."""
