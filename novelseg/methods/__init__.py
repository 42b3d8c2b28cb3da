"""Few-shot segmentation methods: the contract, the table of variants, and one folder per method.

In all docstrings, "A, Eq. 3" is an equation of method A's paper, and "B, Eq. 1" one of method B's (docs/method.md).
"""
