"""What everything stands on: errors, files, labels, random keys, progress, devices."""
