"""Few-shot segmentation methods: the contract, the table of variants, and one folder per method."""
