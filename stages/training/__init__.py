"""The training loop that the two encoders share."""
