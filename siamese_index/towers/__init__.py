"""Samples to unit vectors: the tower file, the network that serves, many samples at a time, on workers."""
