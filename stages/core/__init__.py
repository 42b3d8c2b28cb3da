"""What every stage stands on: parameters, files, random keys, progress, errors."""
