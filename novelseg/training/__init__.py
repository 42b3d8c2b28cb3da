"""The training loop that all trainings share."""
