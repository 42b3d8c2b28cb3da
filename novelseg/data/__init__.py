"""Data sets: readers, index, sampling of episodes, decoded images on a device, and the built-in scenes."""
