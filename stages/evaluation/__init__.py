"""From encoders and episode lists to predictions and pixel counts."""
